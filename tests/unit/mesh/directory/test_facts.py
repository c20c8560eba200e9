"""Payloads of records."""

import msgspec
import pytest
from msgspec import msgpack, structs

from mesh.directory.facts import (
    KINDS,
    MESSAGE_BYTES_MAX,
    REPORTS_MAX,
    CarriedStream,
    CarriedStreams,
    Doors,
    Load,
    Place,
    Report,
    Reports,
    Transcode,
    Where,
    Who,
    is_worth_telling,
    parse_fact_untrusted,
    payload,
)
from mesh.directory.record import PAYLOAD_BYTES_MAX, Kind
from mesh.errors import WireError
from mesh.model import Role

FACTS = [
    Who("garden", "0.1", [Role.ORIGIN, Role.EDGE], b"claim"),
    Where(["192.0.2.1:7000"], "consistent"),
    Load(1, 2, 0.5, 3, 4, 5),
    Load(1, 2, 0.5, 3, 4, 5, "draining", ["news*"]),
    CarriedStreams([CarriedStream("live", 1, 0, ["video h264", "audio aac"])]),
    CarriedStreams([CarriedStream("live", 1, 2, ["video h264"], b"o" * 32, b"p" * 32, 3_000_000)]),
    Transcode(["libx264"], 2),
    Place(52.5, 13.4, "city", "DE"),
    Doors(["https://live.example", "rtmp://[2001:db8::1]:1935"], ["http://192.168.1.4:8080"], "draining"),
    Reports([Report(b"l" * 32, b"o" * 32, b"signed", b"s" * 64, b"f" * 32, b"v" * 64)]),
]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_facts_come_back(fact: object) -> None:
    assert parse_fact_untrusted(type(fact), payload(fact)) == fact


def test_every_kind_but_goodbye_has_a_shape() -> None:
    assert {kind.name for kind in KINDS.values()} == {kind.name for kind in Kind} - {"GOODBYE"}


def test_a_stream_as_older_nodes_say_it() -> None:
    older = msgspec.msgpack.encode([[["live", 1, 0, ["video h264"]]]])
    assert parse_fact_untrusted(CarriedStreams, older) == CarriedStreams(
        [CarriedStream("live", 1, 0, ["video h264"])]
    )
    with pytest.raises(WireError, match="streams"):
        parse_fact_untrusted(
            CarriedStreams, payload(CarriedStreams([CarriedStream("a", 1, 1, [], b"o" * 33)]))
        )


def test_out_of_bounds() -> None:
    with pytest.raises(WireError, match="place"):
        parse_fact_untrusted(Place, payload(Place(91.0, 0.0, "")))
    with pytest.raises(WireError, match="who"):
        parse_fact_untrusted(Who, b"\x93\xa2\xff\xfe\xa0\x90")


def test_many_streams_fit_a_record() -> None:
    streams = [CarriedStream(f"stream-{i}", 1_700_000_000_000_000, 1, ["video h264"]) for i in range(64)]
    assert len(payload(CarriedStreams(streams))) <= PAYLOAD_BYTES_MAX


@pytest.mark.parametrize(
    ("now", "worth"),
    [
        (Load(1000, 10_000, 0.2, 100, 10, 0), False),
        (Load(1900, 10_000, 0.25, 105, 10, 0), False),
        (Load(2100, 10_000, 0.2, 100, 10, 0), True),
        (Load(1000, 20_000, 0.2, 100, 10, 0), True),
        (Load(1000, 10_000, 0.31, 100, 10, 0), True),
        (Load(1000, 10_000, 0.2, 115, 10, 0), True),
        (Load(1000, 10_000, 0.2, 100, 10, 1), True),
    ],
)
def test_load_is_told_when_it_changed_by_a_tenth(now: Load, worth: bool) -> None:
    assert is_worth_telling(Load(1000, 10_000, 0.2, 100, 10, 0), now) is worth
    assert is_worth_telling(None, now)


def test_a_change_of_standing_is_told_at_once() -> None:
    told = Load(1000, 10_000, 0.2, 100, 10, 0)
    for now in (structs.replace(told, standing="paused"), structs.replace(told, streams=["news*"])):
        assert is_worth_telling(told, now) and is_worth_telling(now, told)
        assert not is_worth_telling(now, now)


def test_load_of_a_node_that_says_no_more_than_how_busy_it_is() -> None:
    short = msgpack.encode((1, 2, 0.5, 3, 4, 5))
    assert parse_fact_untrusted(Load, short) == Load(1, 2, 0.5, 3, 4, 5)


def test_load_without_a_budget() -> None:
    told = Load(1000, 0, 0.2, 0, 0, 0)
    assert not is_worth_telling(told, Load(1050, 0, 0.2, 0, 0, 0))
    assert is_worth_telling(told, Load(1200, 0, 0.2, 0, 0, 0))


def test_a_full_record_of_reports_fits() -> None:
    most = Report(b"l" * 32, b"o" * 32, b"m" * MESSAGE_BYTES_MAX, b"s" * 64, b"f" * 32, b"v" * 64)
    assert len(payload(Reports([most] * REPORTS_MAX))) <= PAYLOAD_BYTES_MAX
