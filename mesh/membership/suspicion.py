"""Who may declare a node dead: a quorum of the neighbours that it vouched for itself.

A node signs the list of its neighbours (a vouch) and gives it to them. A neighbour that no longer hears it
signs an accusation with that vouch inside and broadcasts it. Anybody can then check, without a server and
without trusting the messenger, that enough of the subject's own neighbours agree. The subject answers a
false accusation with a higher generation, which voids every vouch and accusation of the one before; it
gives the accuser no new vouch, so one lie costs a liar its power over that node.
"""

from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.errors import WireError
from mesh.membership.message import BLOB_BYTES_MAX, Node
from mesh.model import SIGNATURE_BYTES, NetworkId, NodeId, Signer, Verify

NEIGHBOURS_MAX = 8  # above the overlay's active view, so that a wider view in another version still parses
CASES_MAX = 512  # accused nodes remembered at a time: half of a network of 1000 splitting off
CASE_S = 20.0  # an accusation without a quorum is forgotten: longer than silence, grace and delivery together
QUORUM_GRACE_S = 0.6  # what a subject that lives after all has to answer in: a broadcast there and back
FINAL_GRACE_S = 2.0  # what the subject of a lone final accusation has to answer in; four times a broadcast
QUORUM_MIN = 2  # one accuser alone is believed only after the grace

_VOUCH_PREFIX = b"fwnode vouch 1\0"
_ACCUSATION_PREFIX = b"fwnode accusation 1\0"


class _VouchBody(msgspec.Struct, array_like=True, frozen=True):
    subject: Node
    generation: Annotated[int, Meta(ge=0)]
    sequence: Annotated[int, Meta(ge=0)]
    neighbours: Annotated[list[Node], Meta(max_length=NEIGHBOURS_MAX)]


class _AccusationBody(msgspec.Struct, array_like=True, frozen=True):
    accuser: Node
    final: bool
    vouch: Annotated[bytes, Meta(max_length=1024)]


_vouch_decoder = msgspec.msgpack.Decoder(_VouchBody)
_accusation_decoder = msgspec.msgpack.Decoder(_AccusationBody)
_encode = msgspec.msgpack.Encoder().encode


class Vouch(msgspec.Struct, frozen=True):
    """A node's signed list of its neighbours; `blob` is how it travels."""

    subject: NodeId
    generation: int
    sequence: int
    neighbours: tuple[NodeId, ...]
    blob: bytes

    @property
    def quorum(self) -> int:
        """How many of the neighbours must agree that the subject is dead."""
        return max(QUORUM_MIN, len(self.neighbours) // 2 + 1)


class Accusation(msgspec.Struct, frozen=True):
    """A neighbour's signed word that it no longer hears the subject; `final`: it has given up."""

    accuser: NodeId
    final: bool
    vouch: Vouch
    id: int
    blob: bytes


@dataclass(slots=True)
class _Case:
    """What is held against one node. `due`: when it is dead unless it answered."""

    vouch: Vouch
    until: float
    accusations: dict[NodeId, Accusation] = field(default_factory=dict)
    due: float | None = None

    def counted(self) -> list[Accusation]:
        """Accusations by those whom the newest vouch names."""
        return [a for a in self.accusations.values() if a.accuser in self.vouch.neighbours]


def sign_vouch(
    signer: Signer, network: NetworkId, generation: int, sequence: int, neighbours: list[NodeId]
) -> Vouch:
    """The signer's own list. `neighbours` is at most NEIGHBOURS_MAX long."""
    body = _encode(_VouchBody(signer.node_id, generation, sequence, neighbours))
    blob = signer.sign(_VOUCH_PREFIX + network + body) + body
    return Vouch(signer.node_id, generation, sequence, tuple(neighbours), blob)


def parse_vouch_untrusted(blob: bytes, network: NetworkId, verify: Verify) -> Vouch:
    """A vouch whose signature holds in this network; raises WireError."""
    body = _body(blob)
    try:
        parsed = _vouch_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"not a vouch: {error}") from None
    if not verify(parsed.subject, _VOUCH_PREFIX + network + body, blob[:SIGNATURE_BYTES]):
        raise WireError("a vouch with a wrong signature")
    return Vouch(parsed.subject, parsed.generation, parsed.sequence, tuple(parsed.neighbours), blob)


def sign_accusation(signer: Signer, network: NetworkId, vouch: Vouch, final: bool) -> Accusation:
    """The signer's word against the subject of `vouch`."""
    body = _encode(_AccusationBody(signer.node_id, final, vouch.blob))
    blob = signer.sign(_ACCUSATION_PREFIX + network + body) + body
    return Accusation(signer.node_id, final, vouch, accusation_id(blob), blob)


def accusation_id(blob: bytes) -> int:
    """Its id in announcements: the first bytes of the signature, as for records."""
    return int.from_bytes(blob[:8], "big")


def parse_accusation_untrusted(blob: bytes, network: NetworkId, verify: Verify) -> Accusation:
    """An accusation by a vouched neighbour, both signatures checked; raises WireError."""
    body = _body(blob)
    try:
        parsed = _accusation_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"not an accusation: {error}") from None
    if not verify(parsed.accuser, _ACCUSATION_PREFIX + network + body, blob[:SIGNATURE_BYTES]):
        raise WireError("an accusation with a wrong signature")
    vouch = parse_vouch_untrusted(parsed.vouch, network, verify)
    if parsed.accuser not in vouch.neighbours:
        raise WireError("an accusation by somebody who is not a neighbour")
    return Accusation(parsed.accuser, parsed.final, vouch, accusation_id(blob), blob)


def _body(blob: bytes) -> bytes:
    if not SIGNATURE_BYTES < len(blob) <= BLOB_BYTES_MAX:
        raise WireError(f"a signed blob of {len(blob)} bytes")
    return blob[SIGNATURE_BYTES:]


class Suspicions:
    """Accusations heard, by subject, until a quorum, an answer or forgetting. Pure bookkeeping."""

    def __init__(self) -> None:
        self._cases: dict[NodeId, _Case] = {}

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, accusation: Accusation, now: float) -> bool:
        """Take one in; returns whether it says anything new (then it is worth sending on)."""
        vouch = accusation.vouch
        case = self._cases.get(vouch.subject)
        if case is None or case.vouch.generation < vouch.generation:
            if case is None and len(self._cases) >= CASES_MAX:
                return False
            case = self._cases[vouch.subject] = _Case(vouch, now + CASE_S)
        elif case.vouch.generation > vouch.generation:
            return False
        held = case.accusations.get(accusation.accuser)
        if held is not None and (held.final or not accusation.final):
            return False
        if vouch.sequence > case.vouch.sequence:
            case.vouch = vouch
        case.accusations[accusation.accuser] = accusation
        case.until = now + CASE_S
        if len(case.counted()) >= case.vouch.quorum:
            grace = QUORUM_GRACE_S
        elif accusation.final:
            grace = FINAL_GRACE_S
        else:
            return True
        case.due = now + grace if case.due is None else min(case.due, now + grace)
        return True

    def clear(self, subject: NodeId) -> None:
        """The node answered, said goodbye, or is buried."""
        self._cases.pop(subject, None)

    def verdicts(self, now: float) -> list[tuple[Vouch, tuple[Accusation, ...]]]:
        """Whom nobody needs to wait for any more, with the proof; forgets those and what is too old."""
        found = []
        for subject, case in list(self._cases.items()):
            if case.due is not None and case.due <= now:
                found.append((case.vouch, tuple(case.accusations.values())))
                del self._cases[subject]
            elif case.until <= now:
                del self._cases[subject]
        return found

    def deadline(self) -> float | None:
        """When `verdicts` is next worth calling."""
        if not self._cases:
            return None
        return min(case.until if case.due is None else case.due for case in self._cases.values())

    def holds(self, identity: int) -> Accusation | None:
        """An accusation by its id, for a neighbour that asks."""
        for case in self._cases.values():
            for accusation in case.accusations.values():
                if accusation.id == identity:
                    return accusation
        return None
