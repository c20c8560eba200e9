"""Who watches here, what that takes, and what was sent: the numbers that the uplink's promise rests on. Pure.

A viewer counts at what it can take at most of its stream, and for a promise's time at what it is sent of the
past as well. What is measured only adds to that: of a stream that rests viewers take nothing, and still
will take it all when it goes on.
"""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Protocol

BITS = 8
MEAN_S = 10.0  # over which the promise is a mean
ASSUMED_BPS = 5_000_000  # of a stream whose bitrate is not known yet; as mesh.routing.costs has it
MARGIN = 1.05  # heads of containers, messages and HTTP: 2 % and 4 % measured at 1 Mb/s; and of peaks a little
HLS = "hls"
HLS_GONE_S = 15.0  # a viewer that asked for no playlist for so long went; as media.deliver.audience has it
HLS_VIEWERS_MAX = 50_000  # remembered, as many as an audience counts
FORGET_SHARE = 0.05  # of a bitrate's peak, with each that is measured anew: a scene's peaks come again
HLS_BEHIND_TARGETS = 3  # target durations that a player fetches at once (RFC 8216bis 4.4.3.8, HOLD-BACK)


class Watched(Protocol):
    """What is asked of a stream; media.track.stream.Stream is one."""

    @property
    def name(self) -> str: ...

    @property
    def viewer_bps(self) -> int:
        """What one viewer takes at most; 0: not known."""
        ...

    @property
    def viewers(self) -> dict[str, int]: ...


class Crowd:
    """All viewers of one process. Times are monotonic seconds."""

    def __init__(self, streams: Iterable[Watched]) -> None:
        """`streams` count the viewers that come by connection."""
        self._streams = streams
        self._hls: dict[tuple[str, str], float] = {}  # stream and session: asked last
        self._by_hls: dict[str, int] = {}  # how many of them each stream has
        self._bursts: deque[tuple[float, int]] = deque()  # until when it counts, bits
        self._past_bits = 0
        self._peaks: dict[str, tuple[int, float]] = {}  # bitrate of a stream now, and slow to fall
        self._sent: deque[tuple[float, int]] = deque()
        self._sent_bps = 0

    # --- who is here

    def has(self, stream: str, session: str, now: float) -> bool:
        """Whether this viewer by HLS is in; if so, it asks now."""
        key = (stream, session)
        seen = self._hls.get(key)
        if seen is None or now - seen > HLS_GONE_S:
            return False
        self._hls[key] = now
        return True

    def come(self, stream: str, session: str, past_bits: int, now: float) -> None:
        """A viewer was let in; by HLS with its session, else it is counted by its stream from now on."""
        if session and not self.full:
            if (stream, session) not in self._hls:
                self._by_hls[stream] = self._by_hls.get(stream, 0) + 1
            self._hls[stream, session] = now
        if past_bits:
            self._bursts.append((now + MEAN_S, past_bits))
            self._past_bits += past_bits

    @property
    def full(self) -> bool:
        """Whether one more by HLS could not be told from the others."""
        return len(self._hls) >= HLS_VIEWERS_MAX

    # --- what it takes

    def look(self, now: float, sent_bytes: int) -> None:
        """To be called every second or so; `sent_bytes` is all that left since some time."""
        self._hls = {key: seen for key, seen in self._hls.items() if now - seen <= HLS_GONE_S}
        self._by_hls = Counter(stream for stream, _ in self._hls)
        self._sent.append((now, sent_bytes))
        while len(self._sent) > 2 and self._sent[1][0] <= now - MEAN_S:
            self._sent.popleft()
        (began, before), (ended, after) = self._sent[0], self._sent[-1]
        # Younger than the time of the mean: nothing left before.
        self._sent_bps = round(max(0, after - before) * BITS / max(MEAN_S, ended - began))
        self._peaks = {stream.name: self._peak(stream) for stream in self._streams}

    def _peak(self, stream: Watched) -> tuple[int, float]:
        """A stream that rests keeps what it had: nothing of it is measured, and it goes on."""
        bps, (before, peak) = stream.viewer_bps, self._peaks.get(stream.name, (0, 0.0))
        return bps, max(bps, peak if bps == before else peak * (1 - FORGET_SHARE))

    def sent_bps(self) -> int:
        """All that left, as the mean that is promised."""
        return self._sent_bps

    def viewer_bps(self, stream: Watched) -> int:
        """What one viewer of it counts."""
        bps = max(stream.viewer_bps, self._peaks.get(stream.name, (0, 0))[1])
        return round((bps or ASSUMED_BPS) * MARGIN)

    @property
    def unknown_bps(self) -> int:
        """What a viewer counts of a stream that is not here."""
        return round(ASSUMED_BPS * MARGIN)

    @staticmethod
    def need_bps(bps: int, past_bits: int) -> int:
        """What room one more needs, that is sent so much of the past."""
        return bps + round(past_bits / MEAN_S)

    def reserved_bps(self, now: float) -> int:
        """What all who are in take, with what they are sent of the past."""
        while self._bursts and self._bursts[0][0] <= now:
            self._past_bits -= self._bursts.popleft()[1]
        total = 0
        for watched in self._streams:
            connected = sum(count for protocol, count in watched.viewers.items() if protocol != HLS)
            count = connected + max(watched.viewers.get(HLS, 0), self._by_hls.get(watched.name, 0))
            if count:
                total += count * self.viewer_bps(watched)
        return total + round(self._past_bits / MEAN_S)
