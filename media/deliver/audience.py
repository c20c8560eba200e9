"""How many people watch by HLS, where a viewer is a series of requests and not a connection. Pure.

A viewer is a peer address with a user agent, or the session that it names itself (CMCD's sid,
CTA-5004). It counts from its second playlist request, so that a probe or a health check is no
viewer, and until it has asked for nothing during GONE_S.
"""

from media.track.stream import Stream

GONE_S = 15.0  # five reloads of a three-second playlist
TRACKED_MAX = 50_000  # viewers remembered over all streams; about 10 MB
SWEEP_S = 2.0
PROTOCOL = "hls"


class _Visit:
    __slots__ = ("counted", "seen_at", "stream")

    def __init__(self, stream: Stream, now: float) -> None:
        self.stream = stream
        self.seen_at = now
        self.counted = False


class Audience:
    """Counts HLS viewers into `Stream.viewers`."""

    def __init__(self) -> None:
        self._visits: dict[tuple[str, str], _Visit] = {}
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._visits)

    def seen(self, stream: Stream, session: str, now: float) -> None:
        """`session` asked for a playlist of `stream`."""
        key = (stream.name, session)
        visit = self._visits.get(key)
        if visit is None or visit.stream is not stream:
            if visit is not None:
                self._leave(visit)
            if len(self._visits) < TRACKED_MAX:
                self._visits[key] = _Visit(stream, now)
        else:
            visit.seen_at = now
            if not visit.counted:
                visit.counted = True
                stream.viewer_came(PROTOCOL)
        if now - self._swept_at > SWEEP_S:
            self.sweep(now)

    def sweep(self, now: float) -> None:
        """Forget who has gone."""
        self._swept_at = now
        gone = [key for key, visit in self._visits.items() if now - visit.seen_at > GONE_S]
        for key in gone:
            self._leave(self._visits.pop(key))

    def _leave(self, visit: _Visit) -> None:
        if visit.counted:
            visit.stream.viewer_left(PROTOCOL)
