"""A crowd of LL-HLS viewers in one process, on a host of a lab; says what each met with.

    python viewers.py '{"stream": "cam", "nodes": {"n2": ["203.0.113.10:8080", 50]}, "over_s": 2}'

Each viewer reloads the video's playlist blockingly (RFC 8216bis 6.2.5.2), fetches every part and plays it. It
begins with what PART-HOLD-BACK asks for, and stalls when it has nothing left to show. Where it is so far
behind that parts are not listed any more it fetches segments. The first viewer of each node fetches all
segments and inits, too. They watch until standard input ends; then a JSON object is printed. A line on
standard input is answered with one: the same report as of now.
"""

import hashlib
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import trio

REQUEST_S = 20.0  # a blocking reload is answered within three target durations
AGAIN_S = 0.1
HEAD_BYTES_MAX = 16384
WHOLE = 1 << 20  # in place of a part's number: all of the segment
SAID_MAX = 20  # of one viewer's troubles
_DURATION = re.compile(r"DURATION=([0-9.]+)")
_URI = re.compile(r'URI="([^"]+)"')
_HOLD_BACK = re.compile(r"PART-HOLD-BACK=([0-9.]+)")


class Away(Exception):
    """The node did not answer as it should; the text is what happened."""


class Client:
    """One kept-alive connection, made again when it broke."""

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._stream: trio.SocketStream | None = None
        self._rest = b""

    async def get(self, path: str) -> bytes:
        """The body of a 200. Raises Away."""
        try:
            with trio.fail_after(REQUEST_S):
                return await self._get(path)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            self._drop()
            raise Away(type(error).__name__) from None

    async def _get(self, path: str) -> bytes:
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(*self._where)
        host, port = self._where
        await self._stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > HEAD_BYTES_MAX:
                raise Away("a head without an end")
            data += await self._some()
        head = data[:end].decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:])
        length = int(fields.get("content-length", "-1"))
        if length < 0:
            self._drop()
            raise Away("an answer without a length")
        body = bytearray(data[end + 4 :])
        while len(body) < length:
            body += await self._some()
        self._rest = bytes(body[length:])
        if fields.get("connection") == "close":
            self._drop()
        status = head[0].split(" ")[1]
        if status != "200":
            raise Away(f"{status} for {path.partition('?')[0].rpartition('/')[2]}")
        return bytes(body[:length])

    async def _some(self) -> bytes:
        assert self._stream is not None
        data = await self._stream.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError("the node hung up")
        return data

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.socket.close()
        self._stream, self._rest = None, b""


@dataclass
class Listed:
    """A media playlist, as far as a viewer needs it."""

    first: int = 0  # media sequence number
    parts: dict[tuple[int, int], tuple[str, float]] = field(default_factory=dict)
    segments: dict[int, tuple[str, float]] = field(default_factory=dict)
    gaps: set[int] = field(default_factory=set)
    inits: set[str] = field(default_factory=set)
    discontinuities: set[int] = field(default_factory=set)  # numbers of the segments behind them
    hold_back_s: float = 0.0
    ended: bool = False


def parse(text: str) -> Listed:
    found = Listed()
    number = part = 0
    duration_s = 0.0
    gap = False
    for line in text.splitlines():
        if line.startswith("#EXT-X-PART:"):
            uri, duration = _URI.search(line), _DURATION.search(line)
            assert uri and duration, line
            found.parts[number, part] = uri[1], float(duration[1])
            part += 1
        elif line.startswith("#EXT-X-MEDIA-SEQUENCE:"):
            found.first = number = int(line.partition(":")[2])
        elif line.startswith("#EXT-X-MAP:"):
            uri = _URI.search(line)
            assert uri, line
            found.inits.add(uri[1])
        elif line == "#EXT-X-DISCONTINUITY":
            found.discontinuities.add(number)
        elif line.startswith("#EXTINF:"):
            duration_s = float(line[8:].partition(",")[0])
        elif line == "#EXT-X-GAP":
            gap = True
        elif line == "#EXT-X-ENDLIST":
            found.ended = True
        elif line.startswith("#EXT-X-SERVER-CONTROL:"):
            hold_back = _HOLD_BACK.search(line)
            found.hold_back_s = float(hold_back[1]) if hold_back else 0.0
        elif line and not line.startswith("#"):
            found.segments[number] = line, duration_s
            if gap:
                found.gaps.add(number)
            number, part, gap = number + 1, 0, False
    return found


class Screen:
    """What a viewer sees: playing, or stalled for want of media. Times in seconds."""

    def __init__(self) -> None:
        self.stalls: list[float] = []
        self._shown_at: float | None = None  # when the picture at position 0 would have been shown
        self._buffered = 0.0
        self._stalled_since: float | None = None

    def add(self, duration: float, hold_back: float, now: float) -> None:
        """A part more."""
        if self._shown_at is not None:
            self._look(now)
        self._buffered += duration
        if self._shown_at is None:
            if self._buffered >= hold_back:
                self._shown_at = now
        elif self._stalled_since is not None:
            self.stalls.append(now - self._stalled_since)
            self._shown_at += now - self._stalled_since
            self._stalled_since = None

    def end(self, now: float) -> None:
        """Nothing more comes; a stall that goes on counts until now."""
        if self._shown_at is not None:
            self._look(now)
        if self._stalled_since is not None:
            self.stalls.append(now - self._stalled_since)
            self._stalled_since = None

    def _look(self, now: float) -> None:
        assert self._shown_at is not None
        ran_out = self._shown_at + self._buffered
        if self._stalled_since is None and now > ran_out:
            self._stalled_since = ran_out


class Viewer:
    """One viewer of one node."""

    def __init__(self, crowd: "Crowd", node: str, address: str, *, thorough: bool) -> None:
        host, _, port = address.rpartition(":")
        self.node = node
        self.parts = 0
        self.first_part_s: float | None = None
        self.ended_at: float | None = None
        self.screen = Screen()
        self.missing: list[str] = []
        self.doubled: list[str] = []
        self.discontinuities: set[int] = set()
        self.gaps: set[int] = set()
        self.first = self.last = (0, 0)
        self.away: Counter[str] = Counter()
        self._crowd = crowd
        self._client = Client(host, int(port))
        self._folder = f"/live/{crowd.stream}/v1/"
        self._thorough = thorough
        self._fetched: dict[str, None] = {}
        self._names: dict[tuple[int, int], str] = {}

    async def run(self) -> None:
        began = trio.current_time()
        query = ""
        while self.ended_at is None:
            try:
                listed = parse((await self._client.get(f"{self._folder}index.m3u8{query}")).decode())
                await self._take(listed, began)
                if listed.ended:
                    self.ended_at = trio.current_time() - self._crowd.began
                    self.screen.end(trio.current_time())
                query = "?_HLS_msn={}&_HLS_part={}".format(*self._next()) if self.parts else ""
            except Away as away:
                self.away[str(away)] += 1
                await trio.sleep(AGAIN_S)

    def _next(self) -> tuple[int, int]:
        segment, part = self.last
        return (segment + 1, 0) if part == WHOLE else (segment, part + 1)

    async def _take(self, listed: Listed, began: float) -> None:
        """Fetch what is new of it."""
        self.discontinuities |= {number for number in listed.discontinuities if number >= self.first[0]}
        self.gaps |= {number for number in listed.gaps if number >= self.first[0]}
        for position, name, duration in self._new(listed):
            self._crowd.note_listed(self.node, name)
            body = await self._client.get(self._folder + name)
            now = trio.current_time()
            self._check(position, name, listed)
            self._crowd.note(self.node, name, body)
            self.screen.add(duration, listed.hold_back_s, now)
            if not self.parts:
                self.first, self.first_part_s = position, now - began
            self.parts, self.last = self.parts + 1, position
        if self._thorough:
            await self._take_whole(listed)

    def _new(self, listed: Listed) -> list[tuple[tuple[int, int], str, float]]:
        """Position, name and duration of what is to be fetched; a segment is where its last part would be."""
        parts = [(position, *listed.parts[position]) for position in listed.parts if position > self.last]
        if not self.parts:  # join with the newest segment that has parts, as players do
            joined = max((segment for segment, _ in listed.parts), default=0)
            return [row for row in parts if row[0][0] == joined]
        oldest = min((position[0] for position, *_ in parts), default=0)
        behind = [
            ((number, WHOLE), name, duration_s)
            for number, (name, duration_s) in listed.segments.items()
            if self.last[0] < number < oldest and number not in listed.gaps
        ]
        return behind + parts

    def _check(self, position: tuple[int, int], name: str, listed: Listed) -> None:
        """Nothing left out, nothing that was there under another name."""
        segment, part = self.last
        follows = position in ((segment, part + 1), (segment + 1, 0), (segment + 1, WHOLE))
        if part != WHOLE and position[0] == segment + 1 and (segment, part + 1) in listed.parts:
            follows = False
        if self.parts and not follows and len(self.missing) < SAID_MAX:
            self.missing.append(f"{position} after {self.last}")
        expected = f"{position[0]}." if position[1] == WHOLE else f"{position[0]}.{position[1]}."
        if not name.startswith(expected) and len(self.doubled) < SAID_MAX:
            self.doubled.append(f"{name} at {position}")

    async def _take_whole(self, listed: Listed) -> None:
        names = [name for number, (name, _) in listed.segments.items() if number not in listed.gaps]
        for name in (*listed.inits, *names):
            if name not in self._fetched:
                self._fetched[name] = None
                self._crowd.note(self.node, name, await self._client.get(self._folder + name))

    def report(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "parts": self.parts,
            "first_part_s": self.first_part_s,
            "ended_at": self.ended_at,
            "stall_s": max(self.screen.stalls, default=0.0),
            "stalls": [round(stall, 3) for stall in self.screen.stalls],
            "missing": self.missing,
            "doubled": self.doubled,
            "discontinuities": sorted(self.discontinuities),
            "gaps": sorted(self.gaps),
            "first": self.first,
            "last": self.last,
            "away": dict(self.away),
        }


class Crowd:
    """All viewers, and the hashes of all that they were given, by node and name."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.began = trio.current_time()
        self.viewers: list[Viewer] = []
        self.hashes: dict[str, dict[str, str]] = {}
        self.differing: list[str] = []
        self.listed: dict[str, dict[str, float]] = {}  # node -> name -> when a viewer was told of it
        self._by_name: dict[str, str] = {}

    def note(self, node: str, name: str, body: bytes) -> None:
        """Something was fetched: it must be the same from everybody."""
        digest = hashlib.sha256(body).hexdigest()
        self.hashes.setdefault(node, {})[name] = digest
        if self._by_name.setdefault(name, digest) != digest and len(self.differing) < SAID_MAX:
            self.differing.append(f"{name} at {node}")

    def note_listed(self, node: str, name: str) -> None:
        """A viewer learnt that there is something."""
        self.listed.setdefault(node, {}).setdefault(name, trio.current_time())

    def report(self) -> dict[str, Any]:
        return {
            "listed": self.listed,
            "viewers": [viewer.report() for viewer in self.viewers],
            "differing": self.differing,
            "hashes": self._by_name,
            "objects": {node: len(found) for node, found in self.hashes.items()},
            "shared": len(set.intersection(*map(set, self.hashes.values()))) if self.hashes else 0,
        }


async def main(what: dict[str, Any]) -> None:
    crowd = Crowd(what["stream"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, crowd, nursery.cancel_scope)
        total = sum(count for _, count in what["nodes"].values())
        for node, (address, count) in what["nodes"].items():
            for number in range(count):
                viewer = Viewer(crowd, node, address, thorough=number == 0)
                crowd.viewers.append(viewer)
                nursery.start_soon(viewer.run)
                await trio.sleep(what.get("over_s", 0.0) / total)
    for viewer in crowd.viewers:
        viewer.screen.end(trio.current_time())
    print(json.dumps(crowd.report()), flush=True)


async def listen(crowd: Crowd, scope: trio.CancelScope) -> None:
    stdin = trio.wrap_file(sys.stdin)
    while await stdin.readline():
        print(json.dumps(crowd.report()), flush=True)
    scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
