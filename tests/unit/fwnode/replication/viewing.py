"""Those who publish to the nodes of `lines`, and those who watch by HLS and forget nothing."""

import hashlib
import itertools
from typing import Any

import m3u8
import trio
from lines import FPS, LARGE, SOUND, STREAM, Node

from media.package.playlist import media_playlist
from media.package.window import LiveWindow
from media.track.model import Frame
from media.track.stream import Source, Stream, Writer

WINDOW_US = 6_000_000
LOOK_S = 0.05
FRAME_BYTES = 300
UNIX_US = 1_800_000_000_000_000


class Streamer:
    """An encoder: picture and sound, a keyframe each second; connects once."""

    def __init__(self, node: Node, *, unix_us: int = UNIX_US) -> None:
        self.stopped = ""
        self.sent = 0
        self._node = node
        self._scope = trio.CancelScope()
        self.writer: Writer = node.streams.open(
            STREAM, Source("test", node.name), trio.current_time(), unix_us, self._on_stop
        )
        node.network.nursery.start_soon(self._send)

    def leave(self) -> None:
        """Disconnect."""
        self._scope.cancel()
        self.writer.close("the publisher went", trio.current_time())

    def vanish(self) -> None:
        """With its node."""
        self._scope.cancel()

    def _on_stop(self, reason: str) -> None:
        self.stopped = reason
        self._scope.cancel()

    async def _send(self) -> None:
        with self._scope:
            for track in (LARGE, SOUND):
                self.writer.describe(track, trio.current_time())
            for number in itertools.count():
                now, dts_us = trio.current_time(), number * 1_000_000 // FPS
                for track in (LARGE, SOUND):
                    unit = b"\x65" + f"{self._node.name} {number}".encode() + bytes(FRAME_BYTES)
                    data = unit if track is SOUND else len(unit).to_bytes(4, "big") + unit
                    keyframe = track is SOUND or number % FPS == 0
                    self.writer.write(Frame(track.id, dts_us, 0, keyframe, data), now)
                self.writer.flush(now)
                self.sent += 1
                await trio.sleep(1 / FPS)


class Viewer:
    """Reads a node's media playlist all the time, and everything that it names."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.streams: list[Stream] = []  # different ones that it was given
        self.objects: dict[str, str] = {}  # hashes of all that could be had
        self.numbers: dict[int, tuple[int, str]] = {}  # media sequence numbers: discontinuity and URI
        self.gaps: set[int] = set()
        self.faults: list[str] = []
        self.ended = False
        self.newest = (0, 0)
        self.came_at = trio.current_time()
        self.longest_pause_s = 0.0
        self._window: LiveWindow | None = None
        self._version = -1
        self._fetched: dict[int, tuple[int, bool]] = {}  # as a segment was when all of it was looked at
        self._sequences = (0, 0)
        node.network.nursery.start_soon(self._watch)

    async def _watch(self) -> None:
        while self.node.up:
            stream = self.node.streams.find(STREAM, trio.current_time())
            if stream is None:
                if self.streams:
                    self.faults.append("404")
            else:
                self._look(stream)
            await trio.sleep(LOOK_S)

    def _look(self, stream: Stream) -> None:
        new = not self.streams or self.streams[-1] is not stream
        if new:
            self.streams.append(stream)
            window = self._window = LiveWindow(stream)
            stream.subscribe(lambda now: window.update() and None)
        window = self._window
        assert window is not None
        if window.version == self._version and not new:
            return
        self._version = window.version
        text = media_playlist(window, "v1", WINDOW_US)
        if text is None:
            return
        playlist: Any = m3u8.loads(text.decode())
        self.ended = self.ended or playlist.is_endlist
        first, discontinuity = playlist.media_sequence, playlist.discontinuity_sequence or 0
        if self.numbers and first > max(self.numbers) + 1:
            self.faults.append(f"numbers jump from {max(self.numbers)} to {first}")
        if (first, discontinuity) < self._sequences or discontinuity < self._sequences[1]:
            self.faults.append(f"sequences go back from {self._sequences} to {(first, discontinuity)}")
        self._sequences = first, discontinuity
        whole = [segment for segment in playlist.segments if segment.uri]
        for number, segment in enumerate(whole, first):
            discontinuity += bool(segment.discontinuity) and number > first
            if self.numbers.setdefault(number, (discontinuity, segment.uri)) != (discontinuity, segment.uri):
                self.faults.append(f"{number} is {self.numbers[number]}, then {(discontinuity, segment.uri)}")
            if segment.gap_tag:
                self.gaps.add(number)
        self._fetch(window)

    def _fetch(self, window: LiveWindow) -> None:
        for segment in window.segments:
            state = (len(segment.complete_parts()), segment.complete)
            if self._fetched.get(segment.msn) == state:
                continue
            self._fetched[segment.msn] = state
            made = {f"{segment.msn}.m4s": b"".join(window.segment_bytes("v1", segment.msn) or ())}
            for part in segment.complete_parts():
                made[f"{segment.msn}.{part.index}.m4s"] = (
                    window.part_bytes("v1", segment.msn, part.index) or b""
                )
            init = segment.renditions["v1"].init
            made[f"init-{init}.mp4"] = window.init_bytes("v1", init) or b""
            for name, data in made.items():
                found = hashlib.sha256(data).hexdigest()
                if data and self.objects.setdefault(name, found) != found:
                    self.faults.append(f"{name} has other bytes")
        newest = window.newest() or (0, 0)
        now = trio.current_time()
        if newest > self.newest:
            self.longest_pause_s = max(self.longest_pause_s, now - self.came_at)
            self.newest, self.came_at = newest, now

    @property
    def breaks(self) -> int:
        """Different discontinuity sequence numbers that were seen."""
        return len({discontinuity for discontinuity, _ in self.numbers.values()})


def assert_one_stream(*viewers: Viewer) -> None:
    """No viewer has noticed more than a discontinuity, and all of them saw the same."""
    for viewer in viewers:
        assert not viewer.faults, (viewer.node.name, viewer.faults)
        assert not viewer.ended and len(viewer.streams) == 1, viewer.node.name
        assert sorted(viewer.numbers) == list(range(min(viewer.numbers), max(viewer.numbers) + 1))
    for one, other in itertools.combinations(viewers, 2):
        shared = one.objects.keys() & other.objects.keys()
        assert all(one.objects[name] == other.objects[name] for name in shared)
        numbers = one.numbers.keys() & other.numbers.keys()
        assert numbers and all(one.numbers[number] == other.numbers[number] for number in numbers)
