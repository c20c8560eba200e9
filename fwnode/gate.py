"""Who may publish and play on this node: stream keys, names, open ingest. Pure: clocks are given."""

from collections.abc import Callable

from fwnode.keys import (
    STREAM_NAME_RULE,
    Keyring,
    StreamKey,
    is_stream_name,
    looks_like_key,
)
from media.errors import Refused
from media.ingest.gate import PlayRequest, PublishRequest
from media.net.address import format_address
from media.track.registry import Streams
from media.track.stream import Source, Stream, StreamState, Writer

DEFAULT_STREAM = "live"  # what a key for every stream publishes when no name is given
AGENT_LENGTH_MAX = 120  # shown in tables and logs; strangers choose it
STOPPING = "this node is stopping: publish again in a minute, or to another node"
DRAINING = "this node takes no publishers now, as its operator drains it: publish to another node"
SHOWN_LENGTH_MAX = 64  # of a refused name, in the sentence that refuses it


class NodeGate:
    """media.ingest.gate.Gate on this node's keys and streams."""

    def __init__(
        self,
        keyring: Keyring,
        streams: Streams,
        *,
        open_ingest: bool,
        reserved: frozenset[str],
        unix_us: Callable[[], int],
        on_refused: Callable[[PublishRequest, str], None] = lambda request, reason: None,
    ) -> None:
        """`reserved` names belong to the node itself (the demo); `unix_us` is the wall clock.

        `on_refused` is told of each publisher that is turned away, and why.
        """
        self._keyring = keyring
        self._streams = streams
        self._open_ingest = open_ingest
        self._reserved = reserved
        self._unix_us = unix_us
        self._on_refused = on_refused
        self._closed = ""
        self._admit_player: Callable[[Stream, float], None] = lambda stream, now: None
        self.refused = 0
        self.refusal: Callable[[str, float], str] | None = None  # why a stream may not be published here now

    def drain(self, reason: str = STOPPING) -> None:
        """Accept no more publishers; those who play may come and go until the node stops."""
        self._closed = reason

    def resume(self) -> None:
        """Accept publishers again."""
        self._closed = ""

    def ask_of_players(self, admit: Callable[[Stream, float], None]) -> None:
        """`admit` raises Refused for a player that may not come in."""
        self._admit_player = admit

    def publish(self, request: PublishRequest, on_stop: Callable[[str], None], now: float) -> Writer:
        """The stream that the publisher's key gives it. Raises Refused with what to do about it."""
        try:
            if self._closed:
                raise Refused(self._closed)
            key, name = self._admit(request)
            if name in self._reserved:
                raise Refused(f"'{name}' is the node's own test stream: choose another stream name")
            if self.refusal is not None and (reason := self.refusal(name, now)):
                raise Refused(reason)
            unix_us = self._unix_us()
            source = Source(
                protocol=request.protocol,
                peer=format_address(request.peer_host, request.peer_port),
                agent=_printable(request.agent, AGENT_LENGTH_MAX),
                key_id=key.name if key else "",
            )
            writer = self._streams.open(name, source, now, unix_us, on_stop)
        except Refused as refusal:
            self.refused += 1
            self._on_refused(request, str(refusal))
            raise
        if key is not None:
            self._keyring.mark_used(key, unix_us // 1_000_000)
        return writer

    def play(self, request: PlayRequest, now: float) -> Stream | None:
        """The stream, when there is one of that name, here or on another node. Everybody may watch."""
        stream = self._streams.find(request.stream, now)
        if stream is not None and stream.state is not StreamState.ENDED:
            self._admit_player(stream, now)
        return stream

    def _admit(self, request: PublishRequest) -> tuple[StreamKey | None, str]:
        name, text = request.stream, request.key
        if not text and looks_like_key(name):
            name, text = "", name  # OBS has one field, the encoder's stream name
        key = self._keyring.match(text) if text else None
        if key is not None:
            return key, _stream_for(key, name)
        if text and not (self._open_ingest and name):
            raise Refused(
                "this stream key is not valid here, or was revoked: make a new one with `fwnode key new`"
            )
        if not self._open_ingest:
            raise Refused(
                "publishing needs a stream key: use it as the stream key in OBS, or add ?key=sk_… to the "
                "stream name; `fwnode key new` makes one"
            )
        return None, _checked_name(name or DEFAULT_STREAM)


def _stream_for(key: StreamKey, name: str) -> str:
    if not name:
        if key.stream:
            return key.stream
        if key.allows(DEFAULT_STREAM):
            return DEFAULT_STREAM
        raise Refused(
            f"this stream key is for streams called {key.pattern}: say which, as {{stream}}?key=sk_… in "
            "place of the stream key"
        )
    name = _checked_name(name)
    if not key.allows(name):
        allowed = key.stream or f"streams called {key.pattern}"
        raise Refused(
            f"this stream key is for {allowed}, not for {name}: change the name, or take another key"
        )
    return name


def _checked_name(name: str) -> str:
    if not is_stream_name(name):
        shown = _printable(name, SHOWN_LENGTH_MAX) if not looks_like_key(name) else "a stream key"
        raise Refused(f"{shown!r} cannot be a stream's name: it is {STREAM_NAME_RULE}")
    return name


def _printable(text: str, longest: int) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:longest])
