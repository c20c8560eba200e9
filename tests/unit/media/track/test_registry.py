"""Streams by name: who writes them, how long they stay."""

import gc
import heapq
import itertools
import weakref
from collections.abc import Callable, Iterable

import pytest

from media.bitstream.duration import frame_duration
from media.errors import Refused
from media.track.model import Codec, Frame, Track
from media.track.registry import (
    ENDED_KEEP_S,
    STREAMS_MAX,
    WAITERS_MAX,
    RegistrySettings,
    Streams,
    Takeover,
)
from media.track.stream import Source, Stream, StreamState, Writer

SECOND = 1_000_000
VIDEO = Track(1, Codec.H264, 90_000, b"c", width=320, height=180)


class Alarm:
    def __init__(self, callback: Callable[[float], None]) -> None:
        self.callback: Callable[[float], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Node:
    """A registry on a clock that the test turns."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.now = 100.0
        self.stopped: list[str] = []
        self.heard: list[tuple[str, str]] = []
        self._order = itertools.count()
        self._alarms: list[tuple[float, int, Alarm]] = []
        self.streams = Streams(settings, call_at=self.call_at, measure=frame_duration)
        self.streams.subscribe(self._hear)

    def _hear(self, name: str, now: float) -> None:
        stream = self.streams.get(name)
        self.heard.append((name, stream.state if stream else "gone"))

    def call_at(self, when: float, callback: Callable[[float], None], /) -> Alarm:
        alarm = Alarm(callback)
        heapq.heappush(self._alarms, (when, next(self._order), alarm))
        return alarm

    @property
    def pending(self) -> int:
        return sum(alarm.callback is not None for _, _, alarm in self._alarms)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._alarms and self._alarms[0][0] <= end:
            when, _, alarm = heapq.heappop(self._alarms)
            self.now = max(self.now, when)
            if alarm.callback is not None:
                alarm.callback(self.now)
        self.now = end

    def open(self, name: str = "live") -> Writer:
        unix_us = 1_800_000_000 * SECOND + round(self.now * SECOND)
        source = Source("test", "10.0.0.1:5")
        writer = self.streams.open(name, source, self.now, unix_us, self.stopped.append)
        writer.describe(VIDEO, self.now)
        return writer

    def publish(self, writer: Writer, seconds: float = 4) -> None:
        for number in range(int(seconds * 10)):
            writer.write(Frame(1, number * 100_000, 0, number % 20 == 0, b"v"), self.now)
        writer.flush(self.now)


def node(takeover: Takeover = Takeover.TAKEOVER, linger_s: float = 10.0) -> Node:
    return Node(RegistrySettings(takeover=takeover, linger_s=linger_s))


def states(heard: Iterable[tuple[str, str]]) -> list[str]:
    return [state for _, state in heard]


def test_a_stream_from_beginning_to_end() -> None:
    site = node()
    writer = site.open()
    stream = writer.stream
    assert site.streams.names() == ["live"]
    site.publish(writer)
    writer.close("bye", site.now)
    assert stream.state is StreamState.LINGERING
    site.advance(10)
    assert stream.state is StreamState.ENDED
    assert site.streams.get("live") is stream
    site.advance(ENDED_KEEP_S)
    assert site.streams.get("live") is None
    assert states(site.heard) == ["starting", "live", "lingering", "ended", "gone"]
    assert len(site.streams) == site.pending == 0


def test_a_publisher_that_comes_back_in_time_continues() -> None:
    site = node()
    writer = site.open()
    stream = writer.stream
    site.publish(writer)
    last = stream.ring.get(stream.ring.next - 1)
    writer.close("lost", site.now)
    site.advance(9)
    again = site.open()
    assert again.stream is stream and stream.state is StreamState.STARTING
    site.advance(30)
    site.publish(again)
    assert stream.state is StreamState.LIVE
    new = stream.ring.get(stream.ring.next - 40)
    assert new.segment == last.segment + 1 and new.discontinuity == 1
    assert states(site.heard) == ["starting", "live", "lingering", "starting", "live"]


def test_a_publisher_that_comes_back_late_begins_anew() -> None:
    site = node()
    writer = site.open()
    site.publish(writer, 60)
    writer.close("lost", site.now)
    site.advance(11)
    again = site.open()
    assert again.stream is not writer.stream
    site.publish(again)
    old, new = writer.stream.ring, again.stream.ring
    assert new.get(0).segment > old.get(old.next - 1).segment
    assert new.get(0).track.init > old.get(old.first).track.init
    assert site.pending == 0


def test_numbers_do_not_come_back_when_the_stream_is_long_gone() -> None:
    """A file pushed without a pace is minutes ahead of the clock that numbers begin from."""
    site = node(linger_s=0)
    writer = site.open()
    site.publish(writer, 300)
    writer.close("bye", site.now)
    site.advance(ENDED_KEEP_S + 1)
    assert site.streams.get("live") is None
    site.open().close("sent nothing", site.now)
    again = site.open()
    site.publish(again)
    old, new = writer.stream.ring, again.stream.ring
    assert new.get(0).segment > old.get(old.next - 1).segment
    assert new.get(0).track.init > old.get(old.first).track.init


def test_the_newer_publisher_takes_over() -> None:
    site = node()
    first = site.open()
    site.publish(first)
    second = site.open()
    assert site.stopped == ["another publisher took this stream over"]
    assert second.stream is first.stream
    first.write(Frame(1, 10 * SECOND, 0, True, b"x"), site.now)
    first.close("closed by its session", site.now)
    assert first.stream.state is StreamState.LIVE
    site.publish(second)
    assert second.stream.ring.next == 80
    assert site.pending == 0


def test_or_is_refused() -> None:
    site = node(Takeover.REFUSE)
    first = site.open()
    with pytest.raises(Refused, match=r"10\.0\.0\.1:5"):
        site.open()
    first.close("bye", site.now)
    site.open()


def test_bad_names_are_refused() -> None:
    site = node()
    for name in ("", "A", "-a", "a/b", "a" * 64, "a b", "ä", "a\n"):
        with pytest.raises(Refused):
            site.open(name)
    site.open("a" * 63)
    assert len(site.streams) == 1


def test_the_number_of_streams_is_bounded() -> None:
    site = node()
    for number in range(STREAMS_MAX):
        site.open(f"s{number}")
    with pytest.raises(Refused, match="streams already"):
        site.open("one-more")
    site.open("s0")


def test_ended_streams_make_room() -> None:
    site = node(linger_s=0)
    for number in range(STREAMS_MAX):
        writer = site.open(f"s{number}")
        site.publish(writer)
        writer.close("bye", site.now)
    site.open("one-more")
    assert len(site.streams) == STREAMS_MAX
    assert site.streams.get("s0") is None


def test_a_publisher_that_sends_nothing_leaves_nothing() -> None:
    site = node()
    writer = site.open()
    writer.close("bye", site.now)
    assert len(site.streams) == site.pending == 0
    assert writer.stream.state is StreamState.ENDED


@pytest.mark.parametrize("same_name", [True, False])
def test_publishing_and_stopping_often_leaves_nothing(same_name: bool) -> None:
    site = node()
    kept: list[weakref.ref[Stream]] = []
    for number in range(500):
        writer = site.open("live" if same_name else f"s{number}")
        site.publish(writer, 1)
        if number % 3:
            writer.close("bye", site.now)
        else:
            site.streams.stop(writer.stream.name, "enough", site.now)
        kept.append(weakref.ref(writer.stream))
        site.advance(0.5)
    if same_name:
        assert len(site.streams) == 1 and site.pending <= 1
    del writer
    site.advance(100)
    gc.collect()
    assert len(site.streams) == site.pending == 0
    assert [ref for ref in kept if ref() is not None] == []


def test_reconnecting_without_a_picture_adds_no_listeners() -> None:
    site = node()
    writer = site.open()
    site.publish(writer)
    for _ in range(500):
        writer.close("lost", site.now)
        writer = site.open()
    assert len(writer.stream._listeners) == 1
    assert len(writer.stream.sections) == 1


def test_polling_unknown_names_keeps_nothing() -> None:
    site = node()
    for number in range(10_000):
        assert site.streams.get(f"no-{number}") is None
    cancels = [site.streams.wait_for(f"no-{number}", lambda now: None) for number in range(WAITERS_MAX)]
    with pytest.raises(Refused):
        site.streams.wait_for("no", lambda now: None)
    for cancel in cancels:
        cancel()
        cancel()
    assert not site.streams._waiting and site.streams._waiters == 0


def test_waiting_ends_when_the_stream_is_live() -> None:
    site = node()
    woken: list[float] = []
    site.streams.wait_for("live", woken.append)
    cancel = site.streams.wait_for("live", woken.append)
    cancel()
    writer = site.open()
    assert woken == []
    site.publish(writer)
    assert woken == [site.now]
    site.publish(writer)
    cancel()
    assert len(woken) == 1 and site.streams._waiters == 0


def test_waiting_for_a_stream_that_comes_back() -> None:
    site = node()
    writer = site.open()
    site.publish(writer)
    writer.close("lost", site.now)
    woken: list[float] = []
    site.streams.wait_for("live", woken.append)
    site.publish(site.open())
    assert len(woken) == 1


def test_the_operator_ends_a_stream() -> None:
    site = node()
    writer = site.open()
    site.publish(writer)
    assert site.streams.stop("live", "enough", site.now)
    assert site.stopped == ["enough"]
    assert writer.stream.state is StreamState.ENDED
    assert writer.stream.source is None
    assert not site.streams.stop("live", "enough", site.now)
    assert not site.streams.stop("other", "enough", site.now)


def test_a_listener_may_leave() -> None:
    site = node()
    site.streams.unsubscribe(site._hear)
    site.open()
    assert site.heard == []


def test_stopping_again_from_within_on_stop_is_harmless() -> None:
    site = node()
    writers: list[Writer] = []
    source = Source("test", "10.0.0.1:5")

    def on_stop(reason: str) -> None:
        writers[0].close(reason, site.now)
        site.streams.stop("live", reason, site.now)

    writers.append(site.streams.open("live", source, site.now, 0, on_stop))
    writers[0].describe(VIDEO, site.now)
    site.publish(writers[0])
    site.streams.stop("live", "enough", site.now)
    assert writers[0].stream.state is StreamState.ENDED
