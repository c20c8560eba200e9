"""Which tracks of a stream to ask the parent for: the watched ones, fewer while the line is slow. Pure."""

from collections.abc import Collection

from media.track.model import Kind, Track
from media.track.stream import Stream

SETTLE_S = 10.0  # everything is taken so long: viewers choose a rendition after they saw some of it
WATCHED_S = 20.0  # a track counts as watched so long after it was asked for; playlists are, every few seconds
RAISE_S = 30.0  # until a larger picture is tried again; doubled each time that it was too much
RAISE_MAX_S = 900.0
DOUBLINGS_MAX = 16  # beyond RAISE_MAX_S; keeps the number small


class Tracks:
    """One copy's choice of tracks. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self.left_out = 0  # largest pictures that the line is too slow for
        self._began_at = now
        self._raise_at = 0.0
        self._lowered = 0  # times, without a calm time between

    def lower(self, stream: Stream, fed: Collection[frozenset[int]], now: float) -> bool:
        """Take less: without the largest picture. False: there is nothing that could be left out."""
        wanted, before = self.wanted(stream, fed, now), self.left_out
        while self.wanted(stream, fed, now) == wanted:
            if self.left_out >= len(_pictures(stream)):
                self.left_out = before
                return False
            self.left_out += 1
        self._raise_at = now + min(RAISE_MAX_S, RAISE_S * 2**self._lowered)
        self._lowered = min(self._lowered + 1, DOUBLINGS_MAX)
        return True

    def raise_again(self, now: float) -> bool:
        """Try one picture more when it is time; call now and then. True: one was added."""
        if not self.left_out:
            if now - self._raise_at >= RAISE_MAX_S:
                self._lowered = 0
            return False
        if now < self._raise_at:
            return False
        self.left_out -= 1
        self._raise_at = now + RAISE_S
        return True

    def wanted(self, stream: Stream, fed: Collection[frozenset[int]], now: float) -> tuple[int, ...]:
        """Ids to ask for, none: all. `fed` is what each edge that is fed from here asked for."""
        pictures = _pictures(stream)
        others = [track for track in stream.tracks.values() if track.kind is not Kind.VIDEO]
        if len(pictures) <= 1 and len(others) <= 1:
            return ()
        watched = self._watched(stream, fed, now)
        allowed = pictures[min(self.left_out, max(0, len(pictures) - 1)) :]
        chosen = [track for track in allowed if track.id in watched] or allowed[:1]
        needed = _leading(stream) if _is_watched_whole(stream) else set()
        chosen += [track for track in pictures if track.id in needed and track not in chosen]
        chosen += [track for track in others if track.id in watched] or others[:1]
        if len(chosen) == len(stream.tracks):
            return ()
        return tuple(sorted(track.id for track in chosen))

    def _watched(self, stream: Stream, fed: Collection[frozenset[int]], now: float) -> set[int]:
        everything = set(stream.tracks)
        if now - self._began_at < SETTLE_S or any(not ids for ids in fed):
            return everything
        watched = {track_id for track_id, at in stream.track_asked_at.items() if now - at < WATCHED_S}
        for ids in fed:
            watched |= ids
        if _is_watched_whole(stream):
            watched |= _leading(stream)
        return watched & everything


SELECTIVE = "hls"  # the protocol whose viewers ask for tracks; all others get the leading ones


def _is_watched_whole(stream: Stream) -> bool:
    """Whether there are viewers who cannot be given another picture than the leading one."""
    return any(count for protocol, count in stream.viewers.items() if protocol != SELECTIVE)


def _leading(stream: Stream) -> set[int]:
    """The first picture and the first sound, which one file or connection carries."""
    tracks = stream.tracks.values()
    found = [next((track.id for track in tracks if track.kind is kind), None) for kind in Kind]
    return {track_id for track_id in found if track_id is not None}


def _pictures(stream: Stream) -> list[Track]:
    """Video tracks, the largest first."""
    tracks = [track for track in stream.tracks.values() if track.kind is Kind.VIDEO]
    return sorted(tracks, key=lambda track: (-track.width * track.height, -track.declared_bps, track.id))
