"""What one subscriber is sent."""

import pytest

from media.replicate.publication import Publication
from media.replicate.signing import Proofs
from media.replicate.wire import (
    Describe,
    FrameReader,
    Gone,
    Marked,
    PartSigned,
    Skip,
    State,
    Want,
    parse_to_edge_untrusted,
)
from media.track.stream import StreamState

SECOND = 1_000_000


class Subscriber:
    def __init__(self, origin, want, **options):
        self.ready = 0
        self.reader = FrameReader(parse_to_edge_untrusted)
        proofs = options.pop("proofs", origin.proofs)
        self.publication = Publication(
            origin.stream, proofs, origin.signer.identity, want, self.on_ready, **options
        )

    def on_ready(self, now):
        self.ready += 1

    def take(self, bytes_max=1 << 30):
        return list(self.reader.feed(b"".join(self.publication.pull(bytes_max))))


@pytest.fixture
def subscribe(origin):
    return lambda want=None, **options: Subscriber(origin, want or Want(), **options)


def kinds(messages):
    return [type(message) for message in messages if not isinstance(message, Marked)]


def packets(messages):
    return [message for message in messages if isinstance(message, Marked)]


def test_it_begins_with_the_newest_segment(origin, subscribe):
    origin.send(200)
    messages = subscribe().take()
    assert type(messages[0]) is Describe
    first = packets(messages)[0]
    assert first.part == 0 and first.keyframe
    assert first.segment == origin.stream.ring.get(origin.stream.ring.next - 1).segment
    assert messages[-1] == State(StreamState.LIVE)


@pytest.mark.parametrize("history_s, segments", [(1, 2), (3, 3), (60, 4)])
def test_history_is_whole_segments(origin, subscribe, history_s, segments):
    origin.send(200)
    messages = subscribe(Want(history_us=history_s * SECOND)).take()
    assert len({packet.segment for packet in packets(messages)}) == segments


def test_every_part_is_proven_before_the_next(origin, subscribe):
    origin.send(200)
    part, proven = None, True
    for message in subscribe(Want(history_us=60 * SECOND)).take():
        if isinstance(message, Marked) and (message.segment, message.part) != part:
            assert proven
            part, proven = (message.segment, message.part), False
        elif isinstance(message, PartSigned):
            assert message.position == part
            proven = True
    assert not proven


def test_a_part_without_proof_is_waited_for(origin, subscribe):
    proofs = Proofs()
    origin.send(100)
    subscriber = subscribe(Want(history_us=60 * SECOND), proofs=proofs)
    sent = packets(subscriber.take())
    assert {packet.part for packet in sent} == {0}
    assert subscriber.take() == []
    proofs.add(origin.proofs.get(sent[0].segment, 0), origin.stream)
    assert {packet.part for packet in packets(subscriber.take())} == {1}


def test_packets_go_out_as_they_come(origin, subscribe):
    origin.send(70)
    subscriber = subscribe()
    subscriber.take()
    ready = subscriber.ready
    origin.send(1)
    assert subscriber.ready == ready + 1
    assert len(packets(subscriber.take())) in (2, 3)
    assert subscriber.publication.pull(1000) == []


def test_pulls_are_bounded_by_a_frame(origin, subscribe):
    origin.send(200)
    publication = subscribe(Want(history_us=60 * SECOND)).publication
    pulled = 0
    while buffers := publication.pull(3000):
        assert sum(map(len, buffers)) < 3000 + 1200
        pulled += sum(map(len, buffers))
    assert pulled > 200_000


def test_a_subscriber_of_a_stream_that_has_not_begun_waits(origin, subscribe):
    subscriber = subscribe()
    assert kinds(subscriber.take()) == [State]
    origin.send(5)
    assert kinds(subscriber.take()) == [Describe, State]


def test_it_goes_on_behind_the_last_part(origin, subscribe):
    origin.send(200)
    window = origin.window
    msn = window.segments[2].msn
    epoch = origin.signer.identity.epoch
    messages = subscribe(Want(epoch=epoch, after=(msn, 1))).take()
    assert (packets(messages)[0].segment, packets(messages)[0].part) == (msn, 2)
    assert Skip not in kinds(messages)
    last = window.segments[2].parts[-1].index
    messages = subscribe(Want(epoch=epoch, after=(msn, last))).take()
    assert (packets(messages)[0].segment, packets(messages)[0].part) == (msn + 1, 0)


@pytest.mark.parametrize("after", [(1, 0), (1_800_000_090, 3)])
def test_what_is_gone_is_a_skip(origin, subscribe, after):
    origin.send(200)
    messages = subscribe(Want(epoch=origin.signer.identity.epoch, after=after)).take()
    assert kinds(messages)[:2] == [Skip, Describe]
    assert packets(messages)[0].part == 0


def test_another_epochs_place_is_no_place(origin, subscribe):
    origin.send(200)
    msn = origin.window.segments[1].msn
    messages = subscribe(Want(epoch=1, after=(msn, 1))).take()
    assert packets(messages)[0].part == 0
    assert Skip not in kinds(messages)


def test_other_tracks_are_hollow(origin, subscribe):
    origin.send(100)
    sent = packets(subscribe(Want([1], history_us=60 * SECOND)).take())
    assert {packet.track for packet in sent if packet.data is None} == {2}
    assert {packet.track for packet in sent if packet.data is not None} == {1}


def test_a_slow_subscriber_is_skipped_to_the_newest_segment(origin, subscribe):
    origin.send(70)
    subscriber = subscribe(late_us=4 * SECOND)
    subscriber.take()
    origin.send(300)
    messages = subscriber.take()
    assert kinds(messages)[0] is Skip
    assert packets(messages)[0].segment == messages[0].segment
    assert subscriber.publication.skips == 1
    assert subscriber.take() == []


def test_one_that_was_overrun_too(origin, subscribe):
    origin.send(70)
    subscriber = subscribe(late_us=1 << 60)
    subscriber.take()
    origin.send(1500)
    messages = subscriber.take()
    assert kinds(messages)[0] is Skip and subscriber.publication.skips == 1


def test_nothing_is_kept_for_a_subscriber_that_does_not_pull(origin, subscribe):
    origin.send(70)
    subscriber = subscribe()
    origin.send(600)
    assert subscriber.publication._frames == []


def test_a_subscriber_can_be_let_go(origin, subscribe):
    origin.send(70)
    subscriber = subscribe()
    subscriber.take()
    subscriber.publication.end("this node stops", 1.0)
    assert subscriber.take() == [Gone("this node stops")]
    assert subscriber.publication.done
    ready = subscriber.ready
    origin.send(10)
    assert subscriber.ready == ready and subscriber.take() == []
