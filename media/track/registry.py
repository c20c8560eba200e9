"""Every stream of this node by name: who may write it now, how long it outlives its publisher. Pure."""

import enum
import re
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from media.errors import Refused
from media.track.derived import may_be_copied
from media.track.marked import MarkedWriter
from media.track.stream import (
    AudioMeasure,
    Observer,
    Source,
    Stream,
    StreamSettings,
    StreamState,
    Writer,
)

STREAM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
STREAMS_MAX = 512  # streams of one node, guess: a hundred times what a home uplink carries
ENDED_KEEP_S = 20.0  # an ended stream's last segments and its end tag stay so long
NUMBERS_MAX = 4096  # streams that are gone and whose next number is remembered, the latest; half a MB
YIELD_LINGER_S = 5.0  # for the directory to tell of the publisher that this one gave way to
PUBLISHED_HERE = "it is published on this node now"
WAITERS_MAX = 10_000  # viewers that wait for streams to begin, over all names

StreamListener = Callable[[str, float], None]
Fetch = Callable[[str, float], None]  # stream, now
Opening = Callable[[Writer, float], None]  # a publisher's writer, now
DepartureListener = Callable[[str, Source, str], None]  # stream, who published it, why that ended


class Timer(Protocol):
    def cancel(self) -> None: ...


class CallAt(Protocol):
    """Calls back once at a monotonic time, on the thread that owns the streams."""

    def __call__(self, when: float, callback: Callable[[float], None], /) -> Timer: ...


class Takeover(enum.StrEnum):
    """What happens when somebody publishes to a stream that has a publisher."""

    TAKEOVER = "takeover"  # the newer one wins
    REFUSE = "refuse"  # the older one stays


class RegistrySettings(msgspec.Struct, frozen=True):
    stream: StreamSettings = StreamSettings()
    takeover: Takeover = Takeover.TAKEOVER
    linger_s: float = 10.0  # a publisher that comes back within this continues its stream


class Streams:
    """The node's streams. Unknown names cost a dictionary look-up and keep nothing."""

    def __init__(
        self,
        settings: RegistrySettings,
        *,
        call_at: CallAt,
        measure: AudioMeasure,
        observer: Callable[[], Observer | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._call_at = call_at
        self._measure = measure
        self._observer = observer
        self._streams: dict[str, Stream] = {}
        self._writers: dict[str, Writer | MarkedWriter] = {}
        self._timers: dict[str, Timer] = {}
        self._numbers: dict[str, int] = {}  # where streams that are gone would go on, oldest first
        self._listeners: dict[StreamListener, None] = {}
        self._departure_listeners: dict[DepartureListener, None] = {}
        self._waiting: dict[str, dict[object, Callable[[float], None]]] = {}
        self._waiters = 0
        self.fetch: Fetch | None = None  # may `open_copy` a stream that a viewer looks for; set where one can
        self.opening: Opening | None = None  # may `delay` a publisher whose stream was on another node

    def __iter__(self) -> Iterator[Stream]:
        return iter(tuple(self._streams.values()))

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def linger_s(self) -> float:
        """A publisher that comes back within this continues its stream."""
        return self._settings.linger_s

    def names(self) -> list[str]:
        return sorted(self._streams)

    def get(self, name: str) -> Stream | None:
        """The stream of that name, also while it starts, lingers or has just ended."""
        return self._streams.get(name)

    def find(self, name: str, now: float) -> Stream | None:
        """As `get`, for a viewer: one that is not here begins, if another node has it."""
        stream = self._streams.get(name)
        if self.fetch is not None and (stream is None or stream.state is StreamState.ENDED):
            self.fetch(name, now)
            stream = self._streams.get(name)
        if stream is not None:
            stream.asked_at = now
        return stream

    def awaited(self) -> list[str]:
        """Names that viewers wait for."""
        return list(self._waiting)

    def open(
        self, name: str, source: Source, now: float, unix_us: int, on_stop: Callable[[str], None]
    ) -> Writer:
        """Begin or continue a stream, also a copy. Raises Refused: bad name, taken, or too many streams."""
        _check_name(name)
        self._make_room(name, now)
        stream = self._streams.get(name)
        if stream is None or stream.state is StreamState.ENDED:
            stream = self._replace(name, stream, now, unix_us)
        self._cancel_timer(name)
        if stream.state is StreamState.LINGERING:
            stream.state = StreamState.STARTING
        writer = Writer(
            stream,
            source,
            now,
            unix_us,
            on_stop=on_stop,
            on_close=self._writer_closed,
            measure=self._measure,
            observer=self._observer(),
        )
        self._writers[name] = writer
        if self.opening is not None:
            self.opening(writer, now)
        elif stream.continues:
            writer.begin(None, now)
        self._tell(name, now)
        return writer

    def open_copy(
        self, name: str, source: Source, now: float, unix_us: int, on_stop: Callable[[str], None]
    ) -> MarkedWriter:
        """Begin a stream that another node marked. A publisher who comes here takes its name over.

        It goes on in a stream of that name that lingers here. Raises Refused: bad name, the name is
        written here already, or too many streams.
        """
        if not may_be_copied(name):
            _check_name(name)
        if name in self._writers:
            raise Refused(f"'{name}' is written on this node already")
        stream = self._streams.get(name)
        if stream is None or stream.state is StreamState.ENDED:
            stream = self._replace(name, stream, now, unix_us)
        self._cancel_timer(name)
        writer = MarkedWriter(
            stream, source, now, on_stop=on_stop, on_close=self._copy_closed, on_state=self._tell
        )
        self._writers[name] = writer
        self._tell(name, now)
        return writer

    def open_derived(
        self, name: str, source: Source, now: float, unix_us: int, on_stop: Callable[[str], None]
    ) -> MarkedWriter:
        """Begin a stream that this node makes of another, with that one's marks; else as `open_copy`."""
        writer = self.open_copy(name, source, now, unix_us, on_stop)
        writer.stream.replicated = False  # this node is its origin
        return writer

    def stop(self, name: str, reason: str, now: float) -> bool:
        """End a stream's publisher from our side, and the stream with it. False: nobody publishes it."""
        writer = self._writers.pop(name, None)
        if writer is None:
            return False
        self._stop(writer, reason)
        self._end(name, now)
        return True

    def yield_to(self, name: str, reason: str, now: float) -> None:
        """End a publisher as another node's comes before it; the stream lingers, to be gone on with."""
        writer = self._writers.get(name)
        if isinstance(writer, Writer):
            del self._writers[name]
            self._stop(writer, reason)
            self._linger(writer.stream, max(self.linger_s, YIELD_LINGER_S), now)

    def subscribe(self, listener: StreamListener) -> None:
        """Call `listener(name, now)` when a stream appears, changes state or goes."""
        self._listeners[listener] = None

    def unsubscribe(self, listener: StreamListener) -> None:
        self._listeners.pop(listener, None)

    def subscribe_departures(self, listener: DepartureListener) -> None:
        """Call `listener(name, source, reason)` when a publisher goes, whoever ended it."""
        self._departure_listeners[listener] = None

    def wait_for(self, name: str, callback: Callable[[float], None]) -> Callable[[], None]:
        """Call `callback(now)` once, when `name` is live; returns what cancels the wait.

        Raises Refused when WAITERS_MAX viewers wait already.
        """
        if self._waiters >= WAITERS_MAX:
            raise Refused("too many viewers wait for streams that are not live: try again later")
        token = object()
        self._waiting.setdefault(name, {})[token] = callback
        self._waiters += 1

        def cancel() -> None:
            waiting = self._waiting.get(name)
            if waiting is not None and waiting.pop(token, None) is not None:
                self._waiters -= 1
                if not waiting:
                    del self._waiting[name]

        return cancel

    def _make_room(self, name: str, now: float) -> None:
        writer = self._writers.get(name)
        if writer is None:
            return
        if isinstance(writer, MarkedWriter):
            del self._writers[name]
            writer.give_way(PUBLISHED_HERE)
            self._tell_departure(writer, PUBLISHED_HERE)
            return
        if self._settings.takeover is Takeover.REFUSE:
            raise Refused(
                f"'{name}' is being published from {writer.source.peer} already: stop that one first, "
                'or set ingest.takeover = "takeover"'
            )
        del self._writers[name]
        self._stop(writer, "another publisher took this stream over")

    def _stop(self, writer: Writer | MarkedWriter, reason: str) -> None:
        writer.stop(reason)
        self._tell_departure(writer, reason)

    def _make_space(self, now: float) -> None:
        """Room for one more stream: one that has ended goes sooner than it would."""
        if len(self._streams) < STREAMS_MAX:
            return
        ended = next((stream for stream in self if stream.state is StreamState.ENDED), None)
        if ended is None:
            raise Refused(f"this node carries {STREAMS_MAX} streams already: try another node")
        self._drop(ended.name, now)

    def _replace(self, name: str, ended: Stream | None, now: float, unix_us: int) -> Stream:
        if ended is not None:
            self._drop(name, now)
        else:
            self._make_space(now)
        first_segment = self._numbers.get(name, 0)
        stream = Stream(name, self._settings.stream, now, unix_us, first_segment=first_segment)
        self._streams[name] = stream
        stream.subscribe(self._announcer(stream))
        return stream

    def _announcer(self, stream: Stream) -> Callable[[float], None]:
        """Tells when the stream goes live, each time that it does."""
        told = StreamState.STARTING

        def listener(now: float) -> None:
            nonlocal told
            before, told = told, stream.state
            if told is StreamState.LIVE and before is not told:
                self._tell(stream.name, now)
            if told is StreamState.LIVE and self._waiters:
                self._wake(stream.name, now)

        return listener

    def _wake(self, name: str, now: float) -> None:
        waiting = self._waiting.pop(name, {})
        self._waiters -= len(waiting)
        for callback in waiting.values():
            callback(now)

    def _writer_closed(self, writer: Writer, reason: str, now: float) -> None:
        name = writer.stream.name
        if self._writers.get(name) is not writer:
            return
        del self._writers[name]
        self._tell_departure(writer, reason)
        self._linger(writer.stream, self.linger_s, now)

    def _linger(self, stream: Stream, linger_s: float, now: float) -> None:
        name = stream.name
        if stream.ring.next == 0 or linger_s <= 0:
            self._end(name, now)
            return
        stream.state = StreamState.LINGERING
        self._set_timer(name, now + linger_s, lambda later: self._end(name, later))
        stream._notify(now)
        self._tell(name, now)

    def _copy_closed(self, writer: MarkedWriter, reason: str, now: float) -> None:
        name = writer.stream.name
        if self._writers.get(name) is writer:
            del self._writers[name]
            self._tell_departure(writer, reason)
            self._end(name, now)

    def _end(self, name: str, now: float) -> None:
        stream = self._streams[name]
        stream.state = StreamState.ENDED
        stream.source = None
        stream.ended_at = now
        if stream.ring.next == 0:
            stream._notify(now)
            self._drop(name, now)
            return
        self._set_timer(name, now + ENDED_KEEP_S, lambda later: self._drop(name, later))
        stream._notify(now)
        self._tell(name, now)

    def _drop(self, name: str, now: float) -> None:
        self._cancel_timer(name)
        stream = self._streams.pop(name)
        if stream.ring.next:
            self._remember_number(stream)
        self._tell(name, now)

    def _remember_number(self, stream: Stream) -> None:
        """Whoever sends faster than real time is ahead of the clock that numbers begin from."""
        self._numbers.pop(stream.name, None)
        self._numbers[stream.name] = stream.next_segment
        if len(self._numbers) > NUMBERS_MAX:
            del self._numbers[next(iter(self._numbers))]

    def _set_timer(self, name: str, when: float, callback: Callable[[float], None]) -> None:
        self._cancel_timer(name)
        self._timers[name] = self._call_at(when, callback)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _tell(self, name: str, now: float) -> None:
        for listener in tuple(self._listeners):
            listener(name, now)

    def _tell_departure(self, writer: Writer | MarkedWriter, reason: str) -> None:
        for listener in tuple(self._departure_listeners):
            listener(writer.stream.name, writer.source, reason)


def _check_name(name: str) -> None:
    if not STREAM_NAME.fullmatch(name):
        raise Refused(
            f"'{name[:64]}' is not a stream name: use lower-case letters, digits, - and _, at most 63"
        )
