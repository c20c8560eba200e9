"""What an ingest or play protocol asks of the node before it serves somebody."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from media.track.stream import Stream, Writer


class PublishRequest(msgspec.Struct, frozen=True):
    """Somebody wants to publish. `stream` may be empty or itself a stream key (OBS sends only that)."""

    protocol: str
    stream: str
    key: str
    peer_host: str
    peer_port: int
    agent: str


class PlayRequest(msgspec.Struct, frozen=True):
    """Somebody wants to watch."""

    protocol: str
    stream: str
    token: str
    peer_host: str
    peer_port: int
    agent: str


class Gate(Protocol):
    """Decides who may publish and play."""

    def publish(self, request: PublishRequest, on_stop: Callable[[str], None], now: float) -> Writer:
        """Open the stream for writing; `on_stop(reason)` is called when the publisher must go.

        Raises Refused with a sentence for the person who publishes.
        """

    def play(self, request: PlayRequest, now: float) -> Stream | None:
        """The stream to read, or None when there is none of that name now. Raises Refused."""
