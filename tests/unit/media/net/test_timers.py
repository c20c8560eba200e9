"""Order, cancelling and bounds of timers."""

import random

from media.net.timers import SLACK, Timers


def run(timers: Timers, now: float) -> None:
    while (callback := timers.pop_due(now)) is not None:
        callback(now)


def test_timers_are_called_in_order_when_their_time_comes() -> None:
    timers = Timers()
    called: list[tuple[str, float]] = []
    for name, when in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0)):
        timers.call_at(when, lambda now, name=name: called.append((name, now)))  # type: ignore[misc]  # a default
    assert timers.next() == 1.0
    run(timers, 2.0)
    assert called == [("a", 2.0), ("b1", 2.0), ("b2", 2.0)]
    run(timers, 9.0)
    assert [name for name, _ in called] == ["a", "b1", "b2", "c"]
    assert timers.next() is None


def test_cancelled_timers_are_not_called() -> None:
    timers = Timers()
    called: list[float] = []
    first, second = (timers.call_at(when, called.append) for when in (1.0, 2.0))
    first.cancel()
    first.cancel()
    assert (timers.next(), len(timers)) == (2.0, 1)
    run(timers, 5.0)
    second.cancel()
    assert called == [5.0]
    assert len(timers) == 0


def test_what_is_asked_in_a_callback_waits_for_the_next_turn() -> None:
    timers = Timers()
    called: list[float] = []

    def again(now: float) -> None:
        called.append(now)
        timers.call_at(0.0, again)

    timers.call_at(0.0, again)
    mark = timers.mark()
    while (callback := timers.pop_due(1.0, mark)) is not None:
        callback(1.0)
    assert called == [1.0]


def test_memory_is_bounded_by_what_is_live() -> None:
    timers = Timers()
    keep = [timers.call_at(random.random() * 100, lambda now: None) for _ in range(1000)]
    for _ in range(50_000):
        timers.call_at(random.random() * 100, lambda now: None).cancel()
        assert len(timers._heap) <= 2 * len(keep) + SLACK + 1
    assert len(timers) == len(keep)
