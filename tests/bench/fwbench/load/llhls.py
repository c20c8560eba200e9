"""LL-HLS viewers: blocking playlist reloads, then the part that the answer names, on each track.

One keep-alive connection for each viewer and track. Answers are timed by the kernel (SO_TIMESTAMPNS), so
that what waits in this process can be told from what waits for the server:

- `wall`: a part is complete here, counted from the earliest answer at any viewer that names it;
- `served`: the same without this process's own queueing, that is (answer arrived - earliest answer
  arrived) + (part arrived - part asked for).

In `paced` mode there is no live stream: at each tick all viewers ask at once for the same playlist and the
same part. It measures the floor of the machine and of this program with any file server.
"""

import re
import socket
import struct
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from fwbench import playlist
from fwbench.load.control import Poller, Result
from fwbench.load.session import PATIENCE_S
from fwbench.summary import percentile

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h
_ANCILLARY_BYTES = socket.CMSG_SPACE(16)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BODY = memoryview(bytearray(1 << 20))  # never touched: MSG_TRUNC discards
_HEAD = memoryview(bytearray(65536))
_RAMP_S = 2.0
_KEPT_PARTS = 64  # arrival times kept for each track
_IDLE, _PLAYLIST, _PART, _DISCARD = range(4)


@dataclass(frozen=True, slots=True)
class LlhlsSpec:
    host: str
    port: int
    playlists: list[str]  # media playlists of one viewer: video, and audio when it is separate
    viewers: int
    paced_parts: list[str]  # paced mode: one part for each playlist; else empty
    pace_s: float


@dataclass(slots=True)
class Tally:
    """What was measured between begin and end."""

    wall: "array[float]"
    served: "array[float]"
    origin: "array[float]"
    bytes: int = 0
    answers: int = 0
    skipped: int = 0  # parts that a viewer never got, as they had left the playlist
    early: int = 0  # blocking reloads answered without anything new

    @classmethod
    def new(cls) -> "Tally":
        return cls(array("d"), array("d"), array("d"))


class Track:
    """What all loaders of one media playlist share."""

    def __init__(self, spec: LlhlsSpec, path: str, part: str) -> None:
        self.base = path.encode()
        self.host = f" HTTP/1.1\r\nHost: {spec.host}:{spec.port}\r\n\r\n".encode()
        self.part = part.encode()
        self.arrived: dict[bytes, float] = {}  # part's URI to the earliest answer that names it
        self.stall_s = 1.0
        self._requests: dict[bytes, bytes] = {}
        self._seen = b""
        self._edge: playlist.Edge | None = None
        self._media_s: float | None = None  # Unix time of the end of the newest part

    def request(self, target: bytes) -> bytes:
        found = self._requests.get(target)
        if found is None:
            if len(self._requests) > _KEPT_PARTS * 4:
                self._requests.clear()
            path = playlist.resolve(self.base, target)
            found = self._requests[target] = b"GET " + path + self.host
        return found

    def reload(self, edge: playlist.Edge) -> bytes:
        return self.request(b"%s?_HLS_msn=%d&_HLS_part=%d" % (self.base, edge.msn, edge.part))

    def edge(self, body: bytes) -> playlist.Edge | None:
        """Viewers get the same bytes at the same moment: look only once."""
        if body != self._seen:
            self._seen = body
            self._edge = playlist.edge(body)
            target = playlist.attribute(body, b"PART-TARGET", 0.5)
            self.stall_s = playlist.attribute(body, b"PART-HOLD-BACK", 3 * target) - target
            self._media_s = playlist.edge_time(body)
        return self._edge

    def note(self, uri: bytes, when: float, tally: Tally) -> None:
        """Note an answer that names `uri`, the newest part: the earliest such time counts."""
        first = self.arrived.get(uri)
        if first is not None and first <= when:
            return
        self.arrived[uri] = when
        if first is None and self._media_s is not None:
            tally.origin.append(when - self._media_s)
        while len(self.arrived) > _KEPT_PARTS:
            del self.arrived[next(iter(self.arrived))]


class LlhlsLoad:
    def __init__(self, spec: LlhlsSpec) -> None:
        self._spec = spec
        parts = spec.paced_parts or [""] * len(spec.playlists)
        self._tracks = [Track(spec, *both) for both in zip(spec.playlists, parts, strict=True)]
        self._viewers: list[list[Loader]] = []
        self._due = 0.0
        self.tally = Tally.new()
        self.began = 0.0  # Unix time: parts named before do not count

    def connect(self, poller: Poller) -> Iterator[None]:
        started = time.monotonic()
        for number in range(self._spec.viewers):
            self._viewers.append([Loader(self, track, self._spec, poller) for track in self._tracks])
            while time.monotonic() < started + _RAMP_S * number / self._spec.viewers:
                yield
            yield
        self._due = time.monotonic()

    def tick(self, now: float) -> float:
        if not self._spec.paced_parts or not self._due:
            return 1.0
        if now >= self._due:
            self._due += self._spec.pace_s
            for track in self._tracks:
                track.arrived.clear()
            for viewer in self._viewers:
                for loader in viewer:
                    loader.ask_paced()
        return self._due - now

    def begin(self, now: float) -> None:
        self.tally = Tally.new()
        self.began = time.time()
        for viewer in self._viewers:
            for loader in viewer:
                loader.worst_s = 0.0

    def end(self, now: float) -> Result:
        tally, unix = self.tally, time.time()
        loaders = [loader for viewer in self._viewers for loader in viewer]
        for loader in loaders:
            loader.worst_s = max(loader.worst_s, loader.overdue_s(unix))
        stalled = sum(any(one.worst_s > one.track.stall_s for one in viewer) for viewer in self._viewers)
        return {
            "bytes": float(tally.bytes),
            "answers": float(tally.answers),
            "parts": float(len(tally.wall)),
            "wall_p50_ms": 1000 * percentile(tally.wall, 0.5),
            "wall_p99_ms": 1000 * percentile(tally.wall, 0.99),
            "wall_max_ms": 1000 * max(tally.wall, default=0.0),
            "served_p50_ms": 1000 * percentile(tally.served, 0.5),
            "served_p99_ms": 1000 * percentile(tally.served, 0.99),
            **({"origin_p50_ms": 1000 * percentile(tally.origin, 0.5)} if tally.origin else {}),
            "stalled": float(stalled),
            "skipped": float(tally.skipped),
            "early": float(tally.early),
            "closed": float(sum(loader.closed for loader in loaders)),
            "fault": next((loader.fault for loader in loaders if loader.fault), ""),
        }


class Loader:
    """One connection: reload, parts, reload, ..."""

    def __init__(self, load: LlhlsLoad, track: Track, spec: LlhlsSpec, poller: Poller) -> None:
        self.track, self._load, self._poller = track, load, poller
        self._paced = bool(spec.paced_parts)
        self._sock = socket.create_connection((spec.host, spec.port), PATIENCE_S)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._sock.setblocking(False)
        self._state = _IDLE
        self._held = b""  # an answer whose head, or whose playlist, is not whole
        self._rest = 0  # body bytes of a part still to come
        self._edge: playlist.Edge | None = None
        self._wanted: list[bytes] = []
        self._uri = self._done = b""  # the part asked for last, the part complete last
        self._heard_s = self._asked_s = 0.0
        self.worst_s = 0.0
        self.closed = False
        self.fault = ""
        poller.add(self._sock.fileno(), self._event)
        if not self._paced:
            self._ask(_PLAYLIST, track.request(track.base))

    def ask_paced(self) -> None:
        if self._state == _IDLE and not self.closed:
            self._ask(_PLAYLIST, self.track.request(self.track.base))

    def overdue_s(self, unix: float) -> float:
        """How long the newest part known to anyone has been waited for here."""
        if self.closed:
            return float("inf")
        newest = next(reversed(self.track.arrived), b"")
        return 0.0 if newest in (b"", self._done) else unix - self.track.arrived[newest]

    def _ask(self, state: int, request: bytes) -> None:
        self._state = state
        self._asked_s = time.time()
        self._sock.send(request)

    def _event(self, _events: int) -> None:
        try:
            if self._state == _DISCARD:
                self._discard()
            else:
                self._head()
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:
            self._close(str(error))

    def _discard(self) -> None:
        size, ancillary, _, _ = self._sock.recvmsg_into((_BODY,), _ANCILLARY_BYTES, socket.MSG_TRUNC)
        self._load.tally.bytes += size
        self._rest -= size
        if not size:
            raise ValueError("the server closed the connection")
        if not self._rest:
            self._part_done(_stamp(ancillary))

    def _head(self) -> None:
        room = _HEAD if self._state == _PLAYLIST else _HEAD[:2048]
        size, ancillary, _, _ = self._sock.recvmsg_into((room,), _ANCILLARY_BYTES)
        data = self._held + bytes(room[:size])
        self._load.tally.bytes += size
        end = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, end + 2) if end >= 0 else None
        if not size or (end >= 0 and (length is None or not data.startswith(b"HTTP/1.1 200"))):
            raise ValueError(data[:200].decode("latin-1") or "the server closed the connection")
        rest = int(length[1]) - (len(data) - end - 4) if length else 1
        if self._state == _PART and length:
            self._held, self._rest, self._state = b"", rest, _DISCARD
            if not rest:
                self._part_done(_stamp(ancillary))
        elif rest:
            self._held = data
        else:
            self._held = b""
            self._playlist_done(data[end + 4 :], _stamp(ancillary))

    def _playlist_done(self, body: bytes, arrived: float) -> None:
        self._load.tally.answers += 1
        self._heard_s = arrived
        if self._paced:
            self._wanted = [self.track.part]
            self.track.note(self.track.part, arrived, self._load.tally)
        else:
            self._follow(body, arrived)
        self._go_on()

    def _follow(self, body: bytes, arrived: float) -> None:
        edge = self.track.edge(body)
        if edge is None:
            raise ValueError("a playlist without EXT-X-PART or EXT-X-PRELOAD-HINT")
        self.track.note(edge.newest, arrived, self._load.tally)
        expected = self._edge.hint if self._edge else edge.newest
        if edge.newest == expected:
            self._wanted = [edge.newest]
        elif self._edge and edge.newest == self._edge.newest:
            self._load.tally.early += 1
        else:
            self._wanted = self._catch_up(playlist.parts(body), expected)
        self._edge = edge

    def _catch_up(self, listed: list[bytes], expected: bytes) -> list[bytes]:
        """More than one part since the last answer: all of them, or what is left of them."""
        if expected in listed:
            return listed[listed.index(expected) :]
        self._load.tally.skipped += 1
        return listed[-1:]

    def _go_on(self) -> None:
        if self._wanted:
            self._uri = self._wanted.pop(0)
            self._ask(_PART, self.track.request(self._uri))
        elif self._paced:
            self._state = _IDLE
        else:
            assert self._edge is not None
            self._ask(_PLAYLIST, self.track.reload(self._edge))

    def _part_done(self, arrived: float) -> None:
        tally = self._load.tally
        tally.answers += 1
        self._done = self._uri
        first = self.track.arrived.get(self._uri, 0.0)
        if first >= self._load.began > 0:
            wall = time.time() - first
            tally.wall.append(wall)
            tally.served.append(max(0.0, self._heard_s - first) + max(0.0, arrived - self._asked_s))
            self.worst_s = max(self.worst_s, wall)
        self._go_on()

    def _close(self, fault: str) -> None:
        self.closed, self.fault = True, fault
        self._poller.drop(self._sock.fileno())
        self._sock.close()


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> float:
    """The kernel's time of arrival, Unix seconds; now when it gave none."""
    if not ancillary:
        return time.time()
    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
    return float(seconds + nanoseconds / 1e9)
