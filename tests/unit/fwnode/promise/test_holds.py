"""Drain and pause: who is held until when, and what is counted by month."""

import msgspec

from fwnode.promise.holds import EVERYBODY, FOREVER, Holds, Role
from fwnode.promise.volume import MONTHS_MAX, Volume


def test_a_drain_ends_by_itself_and_asking_again_sets_a_new_end() -> None:
    holds = Holds().drained(EVERYBODY, 100.0)
    assert holds.at(99.9) is holds and holds.drained(EVERYBODY, 100.0) == holds
    assert holds.at(100.0) == Holds()
    longer = holds.drained([Role.EDGES], 200.0)
    assert longer.next_end() == 100.0
    assert longer.at(150.0).drain == {Role.EDGES: 200.0}
    assert longer.drained([Role.EDGES], FOREVER).at(1e12).drain == {Role.EDGES: FOREVER}


def test_a_pause_and_a_drain_are_apart() -> None:
    holds = Holds().paused(50.0).drained([Role.VIEWERS])
    assert holds.at(60.0) == Holds({Role.VIEWERS: FOREVER})
    assert Holds().paused().at(1e12).pause == FOREVER
    assert not Holds().any and holds.any and Holds().next_end() is None


def test_holds_come_back_from_the_disk_as_they_were() -> None:
    holds = Holds().paused(50.5).drained([Role.VIEWERS, Role.EDGES], 7.0)
    assert msgspec.json.decode(msgspec.json.encode(holds), type=Holds) == holds


def test_volume_counts_by_month_and_over_a_restart() -> None:
    volume = Volume({})
    volume.count("2026-11", 1000)
    volume.count("2026-11", 1500)
    volume.count("2026-12", 1700)
    assert (volume.month, volume.used_bytes, volume.months) == (
        "2026-12",
        200,
        {"2026-11": 1500, "2026-12": 200},
    )
    again = Volume(volume.months)
    again.count("2026-12", 50)
    assert again.used_bytes == 250


def test_a_clock_that_jumps_loses_nothing() -> None:
    volume = Volume({"2026-11": 700})
    for month, sent in (("2026-11", 10), ("2099-01", 20), ("2026-11", 30)):
        volume.count(month, sent)
    assert volume.months == {"2026-11": 720, "2099-01": 10} and volume.used_bytes == 720


def test_a_count_that_begins_anew_takes_nothing_away() -> None:
    volume = Volume({})
    for sent in (1000, 0, 300):
        volume.count("2026-11", sent)
    assert volume.used_bytes == 1300


def test_only_the_latest_months_are_remembered() -> None:
    volume = Volume({f"20{year}-01": 1 for year in range(10, 60)})
    volume.count("2060-01", 5)
    assert len(volume.months) == MONTHS_MAX and volume.used_bytes == 5
