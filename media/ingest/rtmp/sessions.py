"""All RTMP clients of a node: makes their sessions, shares feeds between them. Pure."""

from collections.abc import Container, Iterator

from media.container.feed import Feeds
from media.ingest.gate import Gate
from media.ingest.rtmp.handshake import Randomness
from media.ingest.rtmp.model import Role, RtmpSettings
from media.ingest.rtmp.session import RtmpSession, WaitFor
from media.net.transport import Transport


class RtmpSessions:
    """A media.net.transport.ProtocolFactory for RTMP listeners, plain or under TLS."""

    def __init__(
        self, gate: Gate, settings: RtmpSettings, random: Randomness, wait_for: WaitFor, feeds: Feeds
    ) -> None:
        """`wait_for`: see session.WaitFor; media.track.registry.Streams.wait_for is one."""
        self._gate = gate
        self._settings = settings
        self._random = random
        self._wait_for = wait_for
        self._feeds = feeds
        self._sessions: dict[RtmpSession, None] = {}

    def __call__(self, transport: Transport, now: float) -> RtmpSession:
        session = RtmpSession(
            transport,
            now,
            gate=self._gate,
            settings=self._settings,
            random=self._random,
            wait_for=self._wait_for,
            feeds=self._feeds,
            on_closed=self._forget,
        )
        self._sessions[session] = None
        return session

    def __iter__(self) -> Iterator[RtmpSession]:
        """The sessions that are open now."""
        return iter(tuple(self._sessions))

    def __len__(self) -> int:
        return len(self._sessions)

    def request_reconnect(self, tc_url: str, description: str, roles: Container[Role] = tuple(Role)) -> int:
        """Ask every client of these roles that knows how to connect elsewhere; how many did know.

        For a node that drains.
        """
        asked = [session for session in self if session.role in roles]
        return sum(session.request_reconnect(tc_url, description) for session in asked)

    def shut_down(self, description: str, now: float) -> None:
        """Close every session, saying why."""
        for session in self:
            session.shut_down(description, now)

    def _forget(self, session: RtmpSession) -> None:
        self._sessions.pop(session, None)
