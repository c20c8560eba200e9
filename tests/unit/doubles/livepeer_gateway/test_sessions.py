"""Sessions, their names and their end; the segments that FrameWorks remembers."""

import pytest
from livepeer_gateway.sessions import (
    REPLAY_WINDOW,
    STORED_OBJECTS,
    Full,
    Replay,
    Replayed,
    SessionTable,
)


@pytest.mark.livepeer("6.1")
def test_alias_and_its_successor() -> None:
    table = SessionTable()
    first = table.open("url-1", "m", (), 0)
    assert table.find("url-1") is first is table.find("m")
    second = table.open("url-2", "m", (), 1)
    assert table.find("url-2") is second
    assert table.find("url-1") is None


@pytest.mark.livepeer("6.2")
def test_limit() -> None:
    table = SessionTable(2)
    table.open("a", "", (), 0)
    table.open("b", "", (), 0)
    with pytest.raises(Full):
        table.open("c", "", (), 0)
    table.open("b", "", (), 1)


@pytest.mark.livepeer("6.3")
def test_idle_sessions_end_at_a_tick() -> None:
    table = SessionTable()
    session = table.open("a", "", (), 0)
    session.last_used = 1
    assert table.expire(60) == table.expire(61.5) == table.expire(119) == []
    assert table.expire(120) == ["a"]
    assert table.find("a") is None


@pytest.mark.livepeer("6.3")
def test_a_session_at_work_stays() -> None:
    table = SessionTable()
    table.open("a", "", (), 0).in_flight = 1
    assert table.expire(1000) == []


@pytest.mark.livepeer("12.4")
def test_replay() -> None:
    replay: Replay[str] = Replay()
    assert replay.find(3, "x") is None
    replay.add(3, "x", "job")
    assert replay.find(3, "x") == "job"
    with pytest.raises(Replayed):
        replay.find(3, "y")
    for number in range(4, 4 + REPLAY_WINDOW):
        replay.add(number, "x", "job")
    assert len(replay.jobs) == REPLAY_WINDOW
    with pytest.raises(Replayed):
        replay.find(3, "x")


@pytest.mark.livepeer("9.1")
def test_memory_is_bounded() -> None:
    session = SessionTable().open("a", "", (), 0)
    for number in range(20):
        session.store("P", number, b"x")
    assert list(session.stored["P"]) == list(range(20 - STORED_OBJECTS, 20))
