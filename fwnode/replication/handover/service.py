"""Asks other nodes where a stream goes on whose publisher came here, and answers those who ask.

One stream of the mesh for each question, called SERVICE. Its argument names the stream and the asker's
epoch, the answer is a Resume in MessagePack, or nil, and the end. Who answers has given way: an origin's
publisher is stopped, so that its stream ends where it says; an edge takes nothing more of the earlier
publication.

The publisher's packets are held back meanwhile, for at most ORIGIN_S and EDGES_S.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import trio

from fwnode.replication.origins import continuation_untrusted
from media.track.continuation import Continuation, furthest
from media.track.registry import STREAM_NAME
from media.track.stream import Writer
from mesh.directory.facts import Count, Resume
from mesh.errors import MeshError
from mesh.link.model import Connection
from mesh.model import NodeId
from mesh.node.service import MeshNode
from mesh.routing.owners import Publication

SERVICE = "handover"
ORIGIN_S = 1.0  # an answer takes one or two round trips; a dead origin costs the publisher's viewers this
MISSED_S = 0.3  # for an origin from whom edges say that nothing comes
EDGES_S = 1.0
ASKED_MAX = 16  # edges; others come to know by the directory, and what they miss is a gap
WAITING_MAX = 64  # publishers; as many streams as a record tells of
ANSWER_BYTES_MAX = 128  # seven numbers
ANSWER_S = 5.0  # to send that

Give = Callable[[str, Publication, float], Continuation | None]  # stream, winner, now


class Question(msgspec.Struct, array_like=True, frozen=True):
    """What the argument of the stream says."""

    name: str
    epoch_unix_us: Count


@dataclass(frozen=True, slots=True)
class Opening:
    """A publisher that waits to know where its stream goes on."""

    writer: Writer
    epoch_unix_us: int
    origins: tuple[NodeId, ...]  # those who say that they publish it
    edges: tuple[NodeId, ...]

    @property
    def name(self) -> str:
        return self.writer.stream.name


_question = msgspec.msgpack.Decoder(Question)
_answer = msgspec.msgpack.Decoder(Resume | None)
_encode = msgspec.msgpack.Encoder().encode


class Handover:
    """Both sides of it."""

    def __init__(
        self,
        mesh: MeshNode,
        clock: Callable[[], float],
        unix_us: Callable[[], int],
        *,
        give: Give,
        told: Callable[[str], list[Continuation]],
    ) -> None:
        """`give` gives way to another publication; `told`: what the directory says."""
        self._mesh = mesh
        self._clock = clock
        self._unix_us = unix_us
        self._give = give
        self._told = told
        self._waiting: dict[Opening, None] = {}
        self._send, self._receive = trio.open_memory_channel[Opening](WAITING_MAX)

    def open(self, opening: Opening) -> None:
        """Have its writer begin, soon."""
        self._waiting[opening] = None
        try:
            self._send.send_nowait(opening)
        except trio.WouldBlock:
            self._begin(opening, [])

    async def run(self) -> None:
        """Settle what is opened until cancelled; who waits then begins with what is known."""
        try:
            async with trio.open_nursery() as nursery:
                async for opening in self._receive:
                    nursery.start_soon(self._settle, opening)
        finally:
            for opening in list(self._waiting):
                self._begin(opening, [])

    async def serve(self, connection: Connection) -> None:
        """Service of the mesh: one node that has a publisher for a stream that this one has or had."""
        try:
            question = _question.decode(connection.argument)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if not STREAM_NAME.fullmatch(question.name):
            return
        winner = Publication(question.epoch_unix_us, connection.peer.node_id)
        where = self._give(question.name, winner, self._clock())
        answer = Resume(*msgspec.structs.astuple(where)) if where is not None else None
        try:
            with trio.fail_after(ANSWER_S):
                await connection.send_all(_encode(answer))
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass

    async def _settle(self, opening: Opening) -> None:
        """First the origins, who know best; without an answer from one, those who have some of it."""
        missed = bool(self._told(opening.name))
        found = await self._ask(opening, opening.origins, MISSED_S if missed else ORIGIN_S)
        if not found:
            found = await self._ask(opening, opening.edges[:ASKED_MAX], EDGES_S)
        self._begin(opening, found)

    def _begin(self, opening: Opening, found: list[Continuation]) -> None:
        if opening in self._waiting:
            del self._waiting[opening]
            found = found + self._told(opening.name)
            opening.writer.begin(furthest(*found) if found else None, self._clock())

    async def _ask(self, opening: Opening, nodes: Sequence[NodeId], patience_s: float) -> list[Continuation]:
        found: list[Continuation] = []

        async def ask(node: NodeId) -> None:
            where = await self._answer_of(node, Question(opening.name, opening.epoch_unix_us))
            if where is not None:
                found.append(where)

        with trio.move_on_after(patience_s):
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(ask, node)
        return found

    async def _answer_of(self, node: NodeId, question: Question) -> Continuation | None:
        """None: no answer, or that it has nothing of it."""
        try:
            connection = await self._mesh.open_stream(node, SERVICE, _encode(question))
        except (MeshError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return None
        data = b""
        try:
            while len(data) <= ANSWER_BYTES_MAX and (more := await connection.receive_some()):
                data += more
            resume = _answer.decode(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, msgspec.DecodeError):
            return None
        finally:
            connection.close()
        return continuation_untrusted(resume, self._unix_us()) if resume is not None else None
