"""What is published here: epochs, signers, what is told of it, and giving way."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from lines import LARGE

from fwnode.replication.origins import (
    CLOCKS_APART_US,
    EPOCHS_MAX,
    GROUPS_MAX,
    MEDIA_US_MAX,
    TARGET_US_MAX,
    YIELDED_MAX,
    Origins,
    continuation_untrusted,
    resume_of,
)
from media.track.model import Frame
from media.track.registry import RegistrySettings, Streams
from media.track.stream import Source, StreamState, Writer
from mesh.directory.facts import CarriedStream, CarriedStreams, Resume, parse_fact_untrusted, payload
from mesh.routing.owners import SETTLE_S, YIELD_S, Publication, current_publication

ME, OTHER, EDGE = b"m" * 32, b"a" * 32, b"e" * 32
UNIX_US = 1_800_000_000_000_000
RESUME = Resume(1_800_000_500, 2, 70, 1_800_000_001, 90_000_000, UNIX_US, 2_000_000)


class Here:
    """A node's streams, and a directory that says what a test wants."""

    def __init__(self) -> None:
        self.now = 100.0
        self.unix_us = UNIX_US
        self.directory: dict[str, list[tuple[bytes, CarriedStream]]] = {}
        self.stopped: list[str] = []
        timer = SimpleNamespace(cancel=lambda: None)
        self.streams = Streams(
            RegistrySettings(), call_at=lambda when, callback: timer, measure=lambda track, data: None
        )
        self.origins = Origins(
            ME, self.streams, self.said, self.current, lambda message: bytes(64), lambda: self.unix_us
        )
        self.asked: list[list[bytes]] = []

    def said(self, name: str) -> list[tuple[bytes, CarriedStream]]:
        told = {stream.name: stream for stream in self.origins.carried()}
        own = [(ME, told[name])] if name in told else []
        return own + self.directory.get(name, [])

    def current(self, name: str) -> Publication | None:
        return current_publication(self.said(name), lambda node: True)

    def follow(self) -> None:
        self.origins.follow(self.now)
        self.streams.opening = lambda writer, now: self.asked.append(self.origins.begin(writer, now))

    def publish(self, name: str = "cam", seconds: float = 1.0) -> Writer:
        source = Source("test", "me")
        writer = self.streams.open(name, source, self.now, self.unix_us, self.stopped.append)
        self.send(writer, seconds)
        return writer

    def send(self, writer: Writer, seconds: float, start_us: int = 0) -> None:
        writer.describe(LARGE, self.now)
        for number in range(round(seconds * 30)):
            data = b"\x00\x00\x00\x02\x65" + bytes([number % 256])
            dts_us = start_us + number * 1_000_000 // 30
            writer.write(Frame(LARGE.id, dts_us, 0, number % 30 == 0, data), self.now)
        writer.flush(self.now)


@pytest.fixture
def here() -> Here:
    return Here()


def published(epoch: int, resume: Resume | None = None) -> CarriedStream:
    return CarriedStream("cam", epoch, 0, [], resume=resume)


def test_what_is_published_is_signed_from_its_first_packet_on(here: Here) -> None:
    here.follow()
    writer = here.publish(seconds=3)
    signer = here.origins.get("cam")
    assert signer is not None and signer.stream is writer.stream and signer.signed >= 4
    assert here.origins.publication("cam") == Publication(UNIX_US, ME)
    [told] = here.origins.carried()
    assert (told.name, told.epoch_unix_us, told.depth, told.tracks) == ("cam", UNIX_US, 0, ["v1"])
    assert told.resume is None, "while it is live that would change all the time"


def test_what_was_published_before_is_followed_from_now_on(here: Here) -> None:
    here.publish(seconds=3)
    assert here.origins.get("cam") is None
    here.follow()
    assert here.origins.get("cam") is not None
    here.origins.close()
    assert here.origins.get("cam") is None and here.origins.carried() == []


def test_a_copy_is_not_signed(here: Here) -> None:
    here.follow()
    here.streams.open_copy("cam", Source("mesh", "n1"), here.now, UNIX_US, here.stopped.append)
    assert here.origins.get("cam") is None and here.origins.publication("cam") is None


def test_a_stream_that_rests_says_where_it_goes_on(here: Here) -> None:
    here.follow()
    writer = here.publish(seconds=3)
    writer.close("bye", here.now)
    [told] = here.origins.carried()
    assert told.resume is not None and told.resume == resume_of(writer.stream)
    last = writer.stream.ring.get(writer.stream.ring.next - 1)
    assert told.resume.segment == last.segment + 1
    assert told.resume.discontinuity == last.discontinuity + 1
    assert told.resume.media_us == writer.stream.newest_us
    record = payload(CarriedStreams([told]))
    assert parse_fact_untrusted(CarriedStreams, record).streams == [told]


def test_nodes_that_do_not_know_of_it_read_the_rest() -> None:
    told = payload(CarriedStreams([published(7)]))
    shorter = msgspec.msgpack.decode(told)
    assert shorter[0][0].pop() is None
    assert parse_fact_untrusted(CarriedStreams, msgspec.msgpack.encode(shorter)).streams == [published(7)]


def test_an_epoch_is_above_all_that_is_said_and_that_was(here: Here) -> None:
    here.follow()
    here.directory["cam"] = [(OTHER, published(UNIX_US + 50))]
    here.publish()
    assert here.origins.publication("cam") == Publication(UNIX_US + 51, ME)
    here.directory.clear()
    here.streams.stop("cam", "the operator", here.now)
    here.unix_us -= 10_000_000
    here.publish()
    assert here.origins.publication("cam") == Publication(UNIX_US + 52, ME), "with the clock set back"


def test_epochs_of_so_many_names_are_remembered(here: Here) -> None:
    here.follow()
    for number in range(EPOCHS_MAX + 10):
        writer = here.publish(f"cam{number}", 0)
        writer.close("bye", here.now)
    assert len(here.origins._epochs) == EPOCHS_MAX


def test_who_comes_back_goes_on_in_its_epoch(here: Here) -> None:
    here.follow()
    writer = here.publish()
    before, signer = here.origins.publication("cam"), here.origins.get("cam")
    writer.close("bye", here.now)
    here.directory["cam"] = [(EDGE, CarriedStream("cam", UNIX_US, 1, [], ME))]
    again = here.publish()
    assert again.stream is writer.stream
    assert here.origins.publication("cam") == before and here.origins.get("cam") is signer
    assert here.asked == [[], []]


def test_who_comes_after_another_node_begins_an_epoch_and_asks_it(here: Here) -> None:
    here.follow()
    here.directory["cam"] = [
        (EDGE, CarriedStream("cam", UNIX_US, 1, [], OTHER)),
        (OTHER, published(UNIX_US)),
    ]
    writer = here.publish()
    assert here.asked == [[OTHER, EDGE]]
    assert writer.stream.ring.next == 0, "it waits"
    assert [told.depth for told in here.origins.carried()] == [0], "and is known to come"
    where = continuation_untrusted(RESUME, UNIX_US)
    writer.begin(where, here.now)
    first = writer.stream.ring.get(0)
    assert (first.segment, first.discontinuity, first.group) == (RESUME.segment, 2, 70)
    assert first.track.init == RESUME.init and first.dts_us == RESUME.media_us


def test_who_comes_back_too_late_begins_an_epoch(here: Here) -> None:
    """Another node went on with what lingers here."""
    here.follow()
    writer = here.publish()
    writer.close("bye", here.now)
    here.directory["cam"] = [(OTHER, published(UNIX_US + 5))]
    again = here.publish()
    assert again.stream is writer.stream and here.asked == [[], [OTHER]]
    assert here.origins.publication("cam") == Publication(UNIX_US + 6, ME)
    signer = here.origins.get("cam")
    assert signer is not None and signer.signed == 0
    again.begin(None, here.now)
    assert signer.signed > 0
    assert signer.proofs.get(writer.stream.ring.get(0).segment, 0) is None, "that was signed in its epoch"


def test_what_others_tell_is_taken_for_what_can_be(here: Here) -> None:
    here.follow()
    beyond = msgspec.structs.replace(RESUME, segment=2**53)
    here.directory["cam"] = [
        (OTHER, published(5, RESUME)),
        (EDGE, published(4, beyond)),
        (ME, published(3, RESUME)),
        (b"x" * 32, published(2)),
    ]
    [told] = here.origins.told("cam")
    assert told.segment == RESUME.segment


@pytest.mark.parametrize(
    "field, value",
    [
        ("segment", 2 * 1_800_000_000 + 1),
        ("init", 2 * 1_800_000_000 + 1),
        ("discontinuity", 2**31 + 1),
        ("group", GROUPS_MAX + 1),
        ("media_us", MEDIA_US_MAX + 1),
    ],
)
def test_numbers_that_cannot_be_are_not_believed(field: str, value: int) -> None:
    assert continuation_untrusted(RESUME, UNIX_US) is not None
    assert continuation_untrusted(msgspec.structs.replace(RESUME, **{field: value}), UNIX_US) is None


def test_clocks_and_promises_are_believed_so_far() -> None:
    far = msgspec.structs.replace(RESUME, unix_us=2**53, target_duration_us=2**53)
    found = continuation_untrusted(far, UNIX_US)
    assert found is not None
    assert (found.unix_us, found.target_duration_us) == (UNIX_US + CLOCKS_APART_US, TARGET_US_MAX)


def test_it_is_lost_to_a_newer_one(here: Here) -> None:
    here.follow()
    here.publish()
    assert here.origins.lost() == []
    here.directory["cam"] = [(OTHER, published(UNIX_US - 1))]
    assert here.origins.lost() == []
    here.directory["cam"] = [(OTHER, published(UNIX_US + 1))]
    assert here.origins.lost() == [("cam", Publication(UNIX_US + 1, OTHER))]


@pytest.fixture
def loser(here: Here) -> Callable[[], Any]:
    def lose() -> Any:
        here.follow()
        here.publish(seconds=3)
        here.directory["cam"] = [(OTHER, published(UNIX_US + 1))]
        return here.origins.give_way("cam", Publication(UNIX_US + 1, OTHER), "it is on n1", here.now)

    return lose


def test_who_gives_way_says_where_the_stream_goes_on(here: Here, loser: Callable[[], Any]) -> None:
    where = loser()
    stream = here.streams.get("cam")
    assert here.stopped == ["it is on n1"]
    assert stream is not None and stream.state is StreamState.LINGERING
    assert where == stream.continuation
    signer = here.origins.get("cam")
    assert signer is not None
    last = stream.ring.get(stream.ring.next - 1)
    proof = signer.proofs.get(last.segment, last.part)
    assert proof is not None and proof.closes, "edges have all of it"


def test_and_refuses_its_publishers_for_a_while(here: Here, loser: Callable[[], Any]) -> None:
    loser()
    refused = here.origins.refusal
    assert "another node" in refused("cam", here.now)
    assert refused("other", here.now) == ""
    here.directory["cam"] = []
    assert refused("cam", here.now + SETTLE_S - 1), "the winner is not heard of yet"
    here.directory["cam"] = [(OTHER, published(UNIX_US + 1))]
    assert refused("cam", here.now + SETTLE_S)
    assert refused("cam", here.now + YIELD_S) == ""
    assert refused("cam", here.now) == "", "that is over"


@pytest.mark.parametrize("said", [[], [(OTHER, published(UNIX_US + 1, RESUME))]])
def test_but_not_when_the_winner_has_gone(here: Here, loser: Callable[[], Any], said: Any) -> None:
    loser()
    here.directory["cam"] = said
    assert here.origins.refusal("cam", here.now + SETTLE_S) == ""


def test_a_stream_without_a_publisher_gives_way_without_refusing_any(here: Here) -> None:
    here.follow()
    here.publish().close("bye", here.now)
    assert here.origins.give_way("cam", Publication(UNIX_US + 1, OTHER), "it is on n1", here.now)
    assert here.stopped == [] and here.origins.refusal("cam", here.now) == ""


def test_the_next_epoch_is_above_the_winners(here: Here, loser: Callable[[], Any]) -> None:
    where = loser()
    here.directory.clear()
    writer = here.publish()
    assert writer.stream.ring.get(writer.stream.epoch_begin).segment == where.segment
    own = here.origins.publication("cam")
    assert own is not None and own.epoch_unix_us > UNIX_US + 1


def test_so_many_names_are_refused(here: Here) -> None:
    here.follow()
    winner = Publication(UNIX_US + 1, OTHER)
    for number in range(YIELDED_MAX + 5):
        name = f"cam{number}"
        here.publish(name, 0.1)
        here.origins.give_way(name, winner, "it is on n1", here.now)
        here.streams._end(name, here.now)
    assert len(here.origins._yielded) == YIELDED_MAX


def test_nothing_of_it_is_nowhere_to_go_on(here: Here) -> None:
    here.follow()
    writer = here.publish(seconds=0)
    assert here.origins.give_way("cam", Publication(UNIX_US + 1, OTHER), "it is on n1", here.now) is None
    assert resume_of(writer.stream) is None
