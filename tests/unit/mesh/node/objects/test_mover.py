"""Which stream is read, and when another is opened, step by step."""

from random import Random

import pytest

from mesh.errors import WireError
from mesh.node.objects.frame import Frame, Kind
from mesh.node.objects.mover import (
    GIVE_UP_S,
    SILENT_S,
    STALL_S,
    UNSERVED_MAX,
    UPGRADE_S,
    Close,
    Ended,
    Missed,
    Mover,
    Object,
    Open,
    Suspect,
    Switched,
)

NOW = 100.0


def frame(number: int, kind: Kind = Kind.OBJECT) -> Frame:
    return Frame(kind, number, bytearray())


@pytest.fixture
def mover() -> Mover:
    """One that has read object 6 of its first stream."""
    made = Mover(6, Random(1), NOW)
    made.resume(NOW)
    assert made.steps() == [Open(1, None, False)]
    begin(made, 1, 6)
    made.receive(frame(6), NOW)
    assert made.result() == Object(6, bytearray())
    assert made.result() is None
    return made


def begin(mover: Mover, stream: int, first: int, *, best: bool = True, now: float = NOW) -> None:
    assert mover.opened(stream, best=best) == first
    assert mover.ready(stream, now)


def test_a_link_that_changes_moves_it_after_the_object_in_progress(mover: Mover) -> None:
    mover.heard(7, NOW)
    mover.link_changed(NOW)
    assert mover.steps() == [Switched(1, 6), Open(2, None, False)]
    begin(mover, 2, 8)
    assert mover.steps() == []
    mover.heard(None, NOW)
    mover.receive(frame(7), NOW)
    assert mover.steps() == [Close(1), Switched(2, 8)]
    mover.receive(frame(8), NOW)
    assert [mover.result(), mover.result()] == [Object(7, bytearray()), Object(8, bytearray())]
    assert mover.duplicates == 0


def test_between_two_objects_it_moves_at_once(mover: Mover) -> None:
    mover.link_changed(NOW)
    begin(mover, 2, 7)
    assert mover.steps()[-2:] == [Close(1), Switched(2, 7)]


def test_another_change_while_it_moves_begins_anew(mover: Mover) -> None:
    mover.link_changed(NOW)
    mover.link_changed(NOW)
    assert mover.steps()[-3:] == [Open(2, None, False), Close(2), Open(3, None, False)]
    assert mover.opened(2) is None
    assert not mover.ready(2, NOW)


def test_a_half_object_is_asked_for_again(mover: Mover) -> None:
    mover.heard(7, NOW)
    mover.link_changed(NOW)
    begin(mover, 2, 8)
    mover.steps()
    mover.lost(1, "cut", NOW)
    assert mover.steps() == [Close(2), Open(3, None, False)]
    begin(mover, 3, 7)
    assert mover.steps() == [Switched(3, 7)]


def test_silence_is_looked_into_and_then_left(mover: Mover) -> None:
    mover.heard(7, NOW)
    mover.steps()
    now = NOW + STALL_S
    assert mover.deadline() == now
    mover.on_deadline(now, doubted=False)
    mover.on_deadline(now + 0.5, doubted=False)
    assert mover.steps() == [Suspect()]
    mover.on_deadline(now + 0.8, doubted=True)
    assert mover.steps() == [Open(2, 1, False)]
    begin(mover, 2, 7, now=now + 1)
    assert mover.steps() == [Close(1), Switched(2, 7)]


def test_a_stream_that_goes_on_is_read_to_the_end_of_its_object(mover: Mover) -> None:
    mover.heard(7, NOW)
    mover.on_deadline(NOW + SILENT_S, doubted=False)
    mover.heard(7, NOW + SILENT_S)
    begin(mover, 2, 8, now=NOW + SILENT_S)
    mover.receive(frame(7), NOW + SILENT_S)
    assert mover.steps()[-2:] == [Close(1), Switched(2, 8)]


def test_silence_while_nobody_reads_says_nothing(mover: Mover) -> None:
    mover.pause(NOW)
    mover.resume(NOW + 1000.0)
    mover.on_deadline(NOW + 1000.0, doubted=True)
    assert mover.steps() == [Switched(1, 6)]
    mover.on_deadline(NOW + 1000.1 + STALL_S, doubted=True)
    assert mover.steps() == [Open(2, 1, False)]


def test_a_worse_way_is_left_for_the_best_in_time(mover: Mover) -> None:
    mover.link_changed(NOW)
    begin(mover, 2, 7, best=False)
    mover.steps()
    now = NOW + UPGRADE_S
    mover.heard(None, now)
    mover.on_deadline(now, doubted=False)
    assert mover.steps() == [Open(3, None, True)]
    mover.lost(3, "no way", now)
    assert mover.steps() == []
    mover.heard(None, now + UPGRADE_S)
    mover.on_deadline(now + UPGRADE_S, doubted=False)
    assert mover.steps() == [Open(4, None, True)]


def test_what_fails_again_and_again_is_waited_for_longer(mover: Mover) -> None:
    mover.lost(1, "cut", NOW)
    now, waits = NOW, []
    for stream in range(2, 9):
        assert mover.steps()[-1] == Open(stream, None, False)
        mover.lost(stream, "no way", now)
        waits.append(mover.deadline() - now)
        now = mover.deadline()
        mover.on_deadline(now, doubted=True)
    assert 0.18 < waits[0] < 0.32
    assert 3.7 < waits[-1] < 6.3
    mover.lost(9, "no way", NOW + GIVE_UP_S)
    mover.on_deadline(NOW + GIVE_UP_S, doubted=True)
    assert mover.result() == Ended("no way") == mover.result()
    mover.link_changed(NOW + GIVE_UP_S)
    assert not [step for step in mover.steps() if isinstance(step, Open)][1:]


def test_what_the_peer_does_not_serve_ends_soon() -> None:
    mover = Mover(0, Random(1), NOW)
    mover.resume(NOW)
    for stream in range(1, UNSERVED_MAX + 1):
        assert mover.result() is None
        mover.lost(stream, "", NOW, unserved=True)
        mover.on_deadline(NOW + stream, doubted=False)
    assert mover.result() == Ended("the peer does not serve it")


def test_what_is_gone_is_told_once(mover: Mover) -> None:
    mover.receive(frame(9, Kind.GONE), NOW)
    mover.receive(frame(9), NOW)
    assert [mover.result(), mover.result()] == [Missed(7, 9), Object(9, bytearray())]


def test_the_end_closes_everything(mover: Mover) -> None:
    mover.link_changed(NOW)
    mover.receive(frame(7, Kind.END), NOW)
    assert mover.steps()[-2:] == [Close(1), Close(2)]
    assert mover.result() == Ended("") == mover.result()


@pytest.mark.parametrize(
    "wrong",
    [
        frame(6),
        frame(8),
        frame(8, Kind.END),
        frame(6, Kind.IDLE),
        frame(7, Kind.GONE),
        frame(7, Kind.START),
        frame(7, Kind.OPENED),
    ],
    ids=lambda frame: f"{frame.kind.name} {frame.number}",
)
def test_what_a_peer_may_not_say(mover: Mover, wrong: Frame) -> None:
    with pytest.raises(WireError):
        mover.receive(wrong, NOW)
