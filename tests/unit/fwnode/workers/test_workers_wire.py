"""The frames between agent and worker: any chunking, bounded, and nothing but WireError from garbage."""

import random

import pytest

from fwnode.workers.crew import Crew, WorkerState, add
from fwnode.workers.mirror import first_message
from fwnode.workers.wire import (
    CONTROL_BYTES_MAX,
    HEAD,
    Ask,
    AskPoster,
    Catalog,
    Counts,
    Drain,
    Entry,
    Media,
    Poster,
    Ready,
    Renew,
    Report,
    RouteCounts,
    Subscribe,
    Unsubscribe,
    Visit,
    Watched,
    Whole,
    agent_reader,
    encode,
    worker_reader,
)
from media.errors import WireError
from media.track.stream import StreamState

COUNTS = Counts({"http": 3}, 5, 1, 10, 20, {"stall": 1}, {400: 2}, [RouteCounts("live", 4, [0, 0, 4], 9)])
TO_AGENT = [
    Ready(),
    Subscribe(1, "live"),
    Unsubscribe(1),
    Ask("far"),
    AskPoster(3, "live"),
    Report(COUNTS, [Watched(1, {"ts": 2}, 0)], ["live"], ["later"], [Visit("live", "ab", True)]),
]
TO_WORKER = [
    Catalog(True, [Entry("live", 1, StreamState.LIVE, 4)]),
    Drain(),
    Renew(),
    Poster(1, 200, b"jpeg"),
    Whole(2),
]


@pytest.mark.parametrize("seed", range(5))
def test_any_chunking_gives_the_same(seed):
    dice = random.Random(seed)
    media = [bytes([n]) * dice.randrange(1, 3000) for n in range(4)]
    frames = [encode(message) for message in TO_WORKER]
    frames += [HEAD.pack(len(data), number) + data for number, data in enumerate(media, 1)]
    order = list(range(len(frames)))
    dice.shuffle(order)
    wire = b"".join(frames[n] for n in order)
    reader, messages, got = worker_reader(), [], {n: bytearray() for n in range(1, 5)}
    while wire:
        size = dice.choice((1, 7, 100, 5000))
        for found in reader.feed(wire[:size]):
            if isinstance(found, Media):
                got[found.number] += found.data
            else:
                messages.append(found)
        wire = wire[size:]
    assert messages == [TO_WORKER[n] for n in order if n < len(TO_WORKER)]
    assert [bytes(got[n]) for n in range(1, 5)] == media


def test_what_a_worker_says():
    wire = b"".join(map(encode, TO_AGENT))
    assert list(agent_reader().feed(wire)) == TO_AGENT


@pytest.mark.parametrize(
    "data",
    [
        HEAD.pack(CONTROL_BYTES_MAX + 1, 0),
        HEAD.pack(1, 1) + b"x",
        HEAD.pack(3, 0) + b"\xff\xff\xff",
        HEAD.pack(0, 0),
        encode(Subscribe(0, "x")),
        encode(Subscribe(1, "x" * 64)),
        encode(Drain()),
        encode(Report(Counts(accepted=-1))),
    ],
)
def test_what_no_worker_says(data):
    with pytest.raises(WireError):
        list(agent_reader().feed(data))


def test_garbage_raises_only_that():
    dice = random.Random(1)
    good = b"".join(map(encode, TO_AGENT))
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        for reader in (agent_reader(), worker_reader()):
            try:
                list(reader.feed(bytes(data)))
            except WireError:
                pass


def test_a_start_that_is_none():
    with pytest.raises(WireError):
        first_message(b"\x93\x01\x02\x03")


def test_a_link_that_breaks_the_protocol(agent, pair, wrong):
    for bad in (
        encode(Subscribe(1, "a")) + encode(Subscribe(1, "b")),
        HEAD.pack(9, 9),
    ):
        with pytest.raises(wrong):
            pair.link.receive(bad, 0.0)


def test_a_name_that_went_meanwhile_is_refused(agent, pair):
    pair.link.receive(encode(Subscribe(5, "gone")), 0.0)
    pair.carry()
    assert not pair.link._loans


def test_counts_add_up():
    twice = add((COUNTS, COUNTS, Counts(routes=[RouteCounts("live", 1, [0, 0, 0, 0, 1], 0)])))
    assert twice.accepted == 10 and twice.connections == {"http": 6} and twice.requests_refused == {400: 4}
    assert twice.routes == [RouteCounts("live", 9, [0, 0, 8, 0, 1], 18)]


def test_what_a_dead_worker_did_stays_counted():
    crew = Crew(2)
    for worker in crew.workers:
        worker.counts, worker.starts, worker.state = COUNTS, 1, WorkerState.SERVING
    crew.retire(crew.workers[0])
    crew.workers[0].starts += 1
    counts = crew.counts()
    assert counts.accepted == 10 and counts.connections == {"http": 3} and crew.bytes_out == 40
    assert [(status.restarts, status.connections) for status in crew.status()] == [(1, 0), (0, 3)]
