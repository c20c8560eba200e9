"""Asking where a stream goes on, and being asked."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
from lines import STREAM, Network, on_network
from viewing import Streamer

from fwnode.replication.handover.service import (
    ASKED_MAX,
    EDGES_S,
    ORIGIN_S,
    WAITING_MAX,
    Handover,
    Opening,
    Question,
)
from media.track.continuation import Continuation
from mesh.errors import Unavailable
from mesh.model import Role
from mesh.routing.owners import Publication

UNIX_US = 1_800_000_000_000_000
NODES = [bytes([number]) * 32 for number in range(ASKED_MAX + 4)]


def where(segment: int) -> Continuation:
    return Continuation(segment, 1, 1, 1, 1, 1, 1)


class Mesh:
    """Answers as a test sets them; None: it cannot be reached."""

    def __init__(self, answers: dict[bytes, bytes | None]) -> None:
        self.answers = answers
        self.asked: list[bytes] = []
        self.closed = 0

    async def open_stream(self, node: bytes, service: str, argument: bytes) -> Any:
        self.asked.append(node)
        assert msgspec.msgpack.decode(argument, type=Question) == Question("cam", 77)
        answer = self.answers.get(node, b"")
        if answer is None:
            raise Unavailable("no way", 1.0)
        chunks = [answer[:3], answer[3:]] if answer else []

        async def receive_some() -> bytes:
            if not chunks and not answer:
                await trio.sleep_forever()
            return chunks.pop(0) if chunks else b""

        return SimpleNamespace(receive_some=receive_some, close=self._close)

    def _close(self) -> None:
        self.closed += 1


class Asker:
    """A node with a publisher who waits."""

    def __init__(self, answers: dict[bytes, bytes | None], told: list[Continuation]) -> None:
        self.mesh = Mesh(answers)
        self.began: list[tuple[Continuation | None, float]] = []
        self.handover = Handover(
            self.mesh,  # type: ignore[arg-type]  # as much of it as is asked of
            trio.current_time,
            lambda: UNIX_US,
            give=lambda name, winner, now: None,
            told=lambda name: told,
        )

    def open(self, origins: list[bytes], edges: list[bytes]) -> None:
        def begin(found: Continuation | None, now: float) -> None:
            self.began.append((found, now))

        writer: Any = SimpleNamespace(stream=SimpleNamespace(name="cam"), begin=begin)
        self.handover.open(Opening(Hashed(writer), 77, tuple(origins), tuple(edges)))


class Hashed(SimpleNamespace):
    def __init__(self, writer: Any) -> None:
        super().__init__(**vars(writer))

    def __hash__(self) -> int:
        return id(self)


def ask(
    answers: dict[bytes, bytes | None],
    origins: list[bytes],
    edges: list[bytes],
    told: list[Continuation] | None = None,
) -> tuple[Continuation | None, float, Mesh]:
    """Where it goes on, after what time."""
    asker: list[Asker] = []

    async def run() -> None:
        asker.append(Asker(answers, told or []))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asker[0].handover.run)
            asker[0].open(origins, edges)
            began_at = trio.current_time()
            await trio.sleep(10)
            [(found, now)] = asker[0].began
            asker[0].began = [(found, now - began_at)]
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    [(found, after_s)] = asker[0].began
    return found, after_s, asker[0].mesh


def said(segment: int) -> bytes:
    return msgspec.msgpack.encode(where(segment))


def test_an_origins_word_is_enough() -> None:
    found, after_s, mesh = ask({NODES[0]: said(9)}, NODES[:1], NODES[1:3])
    assert found == where(9) and after_s == 0 and mesh.asked == NODES[:1] and mesh.closed == 1


def test_what_the_directory_tells_counts_too() -> None:
    assert ask({NODES[0]: said(9)}, NODES[:1], [], [where(11)])[0] == where(11)


def test_edges_are_asked_when_the_origin_does_not_answer() -> None:
    answers = {NODES[0]: b"", NODES[1]: said(5), NODES[2]: said(6), NODES[3]: b"\xc0", NODES[4]: None}
    found, after_s, _ = ask(answers, NODES[:1], NODES[1:5])
    assert found == where(6) and after_s == pytest.approx(ORIGIN_S)


def test_nobody_answers() -> None:
    found, after_s, mesh = ask({}, NODES[:1], NODES[1:])
    assert found is None and after_s == pytest.approx(ORIGIN_S + EDGES_S)
    assert len(mesh.asked) == 1 + ASKED_MAX


def test_an_origin_that_edges_miss_is_not_waited_for_long() -> None:
    found, after_s, _ = ask({NODES[1]: said(6)}, NODES[:1], NODES[1:2], [where(6)])
    assert found == where(6) and after_s < ORIGIN_S / 2


@pytest.mark.parametrize(
    "answer", [b"\xff", b"\x97\x01", b"x" * 1000, b"\xa3abc", said(2**53), msgspec.msgpack.encode([1] * 6)]
)
def test_nonsense_is_no_answer(answer: bytes) -> None:
    assert ask({NODES[0]: answer}, NODES[:1], [])[0] is None


def test_so_many_wait_and_the_rest_begins_at_once() -> None:
    async def run() -> None:
        asker = Asker({}, [where(3)])
        for _ in range(WAITING_MAX + 2):
            asker.open([], [])
        assert [found for found, _ in asker.began] == [where(3)] * 2

    trio.run(run)


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"cam",
        b"\x92\xa3cam\xff",
        msgspec.msgpack.encode(["cam", -1]),
        msgspec.msgpack.encode(["cam", 2**60]),
        msgspec.msgpack.encode(["Not A Name", 5]),
        b"\x92" * 500,
    ],
)
def test_a_question_that_is_none_is_not_answered(argument: bytes) -> None:
    async def run(network: Network) -> None:
        origin, other = network.add(2)
        Streamer(origin)
        await trio.sleep(1)
        end = await other.open_stream(origin.id, "handover", argument)
        assert await end.receive_some() == b""
        assert origin.watch().state == "live"

    on_network(run)


def test_only_who_may_publish_is_given_way_to() -> None:
    async def run(network: Network) -> None:
        origin, other = network.add(2)
        streamer = Streamer(origin)
        await trio.sleep(1)
        roll = origin.core.roll
        origin.core.roll = SimpleNamespace(roles_of=lambda node, claim: frozenset((Role.RELAY,)))
        question = msgspec.msgpack.encode(Question(STREAM, 2**53))
        end = await other.open_stream(origin.id, "handover", question)
        assert await end.receive_some() == b"\xc0" and not streamer.stopped
        origin.core.roll = roll
        end = await other.open_stream(origin.id, "handover", question)
        assert len(await end.receive_some()) > 10 and streamer.stopped

    on_network(run)


def test_an_older_one_is_not_given_way_to() -> None:
    async def run(network: Network) -> None:
        origin, other = network.add(2)
        streamer = Streamer(origin)
        await trio.sleep(1)
        end = await other.open_stream(origin.id, "handover", msgspec.msgpack.encode(Question(STREAM, 5)))
        assert await end.receive_some() == b"\xc0" and not streamer.stopped
        assert origin.replication._origins.publication(STREAM) != Publication(5, other.id)

    on_network(run)
