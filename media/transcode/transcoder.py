"""Which streams of this node get renditions: one session each, while their publishers are here. Pure."""

from collections.abc import Callable

from media.track.derived import is_ladder
from media.track.marked import MarkedWriter
from media.track.registry import Streams
from media.track.stream import Source, StreamState
from media.transcode.capacity import Capacity
from media.transcode.session import Session, TranscodeSettings


class Transcoder:
    """Follows the registry. `on_work` is set by the shell that runs workers."""

    def __init__(
        self, streams: Streams, settings: TranscodeSettings, capacity: Capacity, unix_us: Callable[[], int]
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self.on_work: Callable[[], None] = lambda: None
        self._streams = streams
        self._settings = settings
        self._capacity = capacity
        self._unix_us = unix_us

    @property
    def enabled(self) -> bool:
        """Do the settings ask for any renditions?"""
        return self._settings.policy.mode != "off"

    def follow(self, now: float) -> None:
        """Transcode what is published now and from now on, until `close`."""
        self._streams.subscribe(self._changed)
        for name in self._streams.names():
            self._changed(name, now)

    def close(self, now: float) -> None:
        """Transcode no more."""
        self._streams.unsubscribe(self._changed)
        for session in self.sessions.values():
            session.close("the node makes no renditions any more", now)
        self.sessions.clear()

    def tick(self, now: float) -> None:
        """Call every half second."""
        for session in tuple(self.sessions.values()):
            session.tick(now)

    def _changed(self, name: str, now: float) -> None:
        if is_ladder(name):
            return
        stream = self._streams.get(name)
        held = self.sessions.get(name)
        if held is not None and held.stream is not stream:
            del self.sessions[name]
            held.close("its source is gone", now)
            held = None
        if stream is None or stream.replicated or stream.state is StreamState.ENDED or held is not None:
            return
        self.sessions[name] = Session(
            stream, self._settings, self._capacity, self._open_ladder, lambda: self.on_work(), now
        )
        self.on_work()

    def _open_ladder(
        self, name: str, source: Source, now: float, on_stop: Callable[[str], None]
    ) -> MarkedWriter:
        stream = self._streams.get(name)
        if stream is not None and stream.replicated:
            self._streams.stop(name, "it is made on this node now", now)
        return self._streams.open_derived(name, source, now, self._unix_us(), on_stop)
