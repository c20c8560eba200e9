"""Reads a media playlist all the time, like a player that forgets nothing."""

import hashlib
import threading
import time
from itertools import pairwise

import m3u8
from live_node import LiveNode

POLL_S = 0.1


class HlsViewer:
    """Notes every media sequence number with its discontinuity, and the hash of every object."""

    def __init__(self, node: LiveNode, folder: str) -> None:
        self.statuses: set[int] = set()
        self.ended = False
        self.numbers: dict[int, tuple[int, str]] = {}  # discontinuity sequence number and address
        self.gaps: set[int] = set()
        self.objects: dict[str, str] = {}
        self.faults: list[str] = []
        self.new_at = time.monotonic()  # when the newest object came
        self._node = node
        self._folder = folder
        self._sequence = (0, 0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._thread.join()

    @property
    def breaks(self) -> list[int]:
        """Discontinuity sequence numbers that were seen."""
        return sorted({discontinuity for discontinuity, _ in self.numbers.values()})

    def assert_undisturbed(self) -> None:
        """Nothing was noticed but a discontinuity."""
        assert not self.faults, self.faults
        assert self.statuses == {200} and not self.ended
        assert all(after == before + 1 for before, after in pairwise(sorted(self.numbers))), self.numbers

    def _watch(self) -> None:
        while not self._stopped.wait(POLL_S):
            answer = self._node.fetch(self._folder + "index.m3u8")
            self.statuses.add(answer.status)
            if answer.status == 200:
                self._read(answer.text)

    def _read(self, text: str) -> None:
        playlist = m3u8.loads(text)
        self.ended = self.ended or playlist.is_endlist
        first, discontinuity = playlist.media_sequence, playlist.discontinuity_sequence or 0
        if first < self._sequence[0] or discontinuity < self._sequence[1]:
            self.faults.append(f"from {self._sequence} back to {(first, discontinuity)}")
        self._sequence = first, discontinuity
        names = [section.uri for section in playlist.segment_map]
        listed = [segment for segment in playlist.segments if segment.uri]
        for number, segment in enumerate(listed, first):
            discontinuity += bool(segment.discontinuity) and number > first
            found = (discontinuity, segment.uri)
            if self.numbers.setdefault(number, found) != found:
                self.faults.append(f"{number} was {self.numbers[number]} and is {found}")
            if segment.gap_tag:
                self.gaps.add(number)
            else:
                names.append(segment.uri)
        for segment in playlist.segments:
            names += [part.uri for part in segment.parts]
        for name in names:
            if name not in self.objects:
                self._fetch(name)

    def _fetch(self, name: str) -> None:
        answer = self._node.fetch(self._folder + name)
        if answer.status != 200:
            self.faults.append(f"{name} is {answer.status}")
            return
        self.objects[name] = hashlib.sha256(answer.body).hexdigest()
        self.new_at = time.monotonic()
