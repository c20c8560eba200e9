"""A node's word on what it passes on: who lies is convicted by it, who does not cannot be framed."""

import msgspec
import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from media.replicate.publication import Publication
from media.replicate.replica import Failed
from media.replicate.signing import (
    Fault,
    Identity,
    leaf_of,
    packets_digest,
    section_digest,
    signed_message,
)
from media.replicate.vouching import MESSAGE_BYTES_MAX, Statement, Voucher, convicts, vouched_message
from media.replicate.wire import (
    NUMBER_MAX,
    TARGET_US_MAX,
    FrameReader,
    PartSigned,
    Vouched,
    Want,
    parse_to_edge_untrusted,
)

ORIGIN = SigningKey(bytes(range(32)))  # whose streams the fixture `origin` signs
RELAY = SigningKey(b"r" * 32)
OTHER = SigningKey(b"o" * 32)


def public(key):
    return bytes(key.verify_key)


def sign(message):
    return RELAY.sign(message).signature


def verify(key, message, signature):
    try:
        VerifyKey(key).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def voucher_of(relay):
    return Voucher(relay.stream, relay.replica.identity, public(ORIGIN), sign)


def pass_on(relay, edge, voucher, alter=lambda data: data):
    """Everything that the relay has, as bytes for the edge."""
    want = edge.replica.adopt(history_us=6_000_000)
    publication = Publication(
        relay.stream, relay.proofs, relay.replica.identity, want, lambda now: None, voucher=voucher
    )
    while buffers := publication.pull(65536):
        edge.take(alter(b"".join(buffers)))
    publication.close()


def lie(relay, text):
    """The relay's memory alters the packet that holds `text`, after it was checked."""
    keep = relay.stream.ring.append

    def append(packet):
        if text in packet.data:
            data = packet.data.replace(text, text[:-1] + bytes([text[-1] ^ 0x80]))
            packet = msgspec.structs.replace(packet, data=data)
        keep(packet)

    relay.stream.ring.append = append


def message_of(relay, part):
    identity = relay.replica.identity
    section = section_digest(relay.stream.sections[part.discontinuity], identity.epoch)
    return signed_message(identity, section, part)


def statement_of(failure, **changed):
    statement = Statement(public(ORIGIN), failure.message, failure.signature, failure.found, failure.vouch)
    return msgspec.structs.replace(statement, **changed)


@pytest.fixture
def caught(origin, new_edge):
    """What an edge finds out about a relay that alters a packet."""
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    lie(relay, b"NUMBER" + (60).to_bytes(4, "big"))
    origin.send(100)
    pass_on(relay, edge, voucher_of(relay))
    [event] = edge.events
    assert isinstance(event, Failed) and event.failure.fault is Fault.PACKETS
    return event.failure


def test_a_lie_convicts_the_liar_and_nobody_else(caught):
    statement = statement_of(caught)
    assert convicts(statement, public(RELAY), verify)
    assert not convicts(statement, public(OTHER), verify)
    assert not convicts(statement, public(ORIGIN), verify)


@pytest.mark.parametrize("name", ["origin", "message", "signature", "found", "vouch"])
def test_a_statement_that_was_changed_convicts_nobody(caught, name):
    before = getattr(statement_of(caught), name)
    changed = statement_of(caught, **{name: bytes([before[0] ^ 1]) + before[1:]})
    assert not convicts(changed, public(RELAY), verify)


def test_what_honest_relays_say_convicts_nobody(origin, new_edge):
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    origin.send(150)
    voucher = voucher_of(relay)
    sent = []
    pass_on(relay, edge, voucher, lambda data: sent.append(data) or data)
    assert edge.replica.verified > 4 and not edge.events
    messages = list(FrameReader(parse_to_edge_untrusted).feed(b"".join(sent)))
    words = [message for message in messages if isinstance(message, Vouched)]
    proofs = [message for message in messages if isinstance(message, PartSigned)]
    assert len(words) == len(proofs) > 4
    for word, proof in zip(words, proofs, strict=True):
        message = message_of(relay, proof)
        said = vouched_message(public(ORIGIN), message, proof.signature, proof.digest)
        assert verify(public(RELAY), said, word.signature)
        statement = Statement(public(ORIGIN), message, proof.signature, proof.digest, word.signature)
        assert not convicts(statement, public(RELAY), verify)
        assert voucher.vouch(proof) == word  # signed once, for all edges


def test_altered_on_the_way_the_word_does_not_fit(origin, new_edge):
    """The relay vouches for what it meant to send: a proof of nothing, and the edge knows better."""
    relay, edge = new_edge(), new_edge()
    relay.follow(origin)
    origin.send(100)
    text = b"NUMBER" + (60).to_bytes(4, "big")
    pass_on(relay, edge, voucher_of(relay), lambda data: data.replace(text, text[:-1] + b"\xff"))
    [event] = edge.events
    assert isinstance(event, Failed)
    assert not convicts(statement_of(event.failure), public(RELAY), verify)


def test_vouching_for_a_signature_that_is_none_convicts(origin, new_edge):
    relay = new_edge()
    relay.follow(origin)
    origin.send(100)
    packets = relay.stream.ring.slice(0, relay.stream.ring.next)
    part = relay.proofs.get(packets[0].segment, packets[0].part)
    own = [leaf_of(packet) for packet in packets if (packet.segment, packet.part) == part.position]
    forged = msgspec.structs.replace(part, signature=bytes(64))
    word = voucher_of(relay).vouch(forged)
    message = message_of(relay, part)
    for signature, lies in ((bytes(64), True), (part.signature, False)):
        statement = Statement(public(ORIGIN), message, signature, packets_digest(own), word.signature)
        assert convicts(statement, public(RELAY), verify) is lies


def test_what_left_the_ring_is_not_vouched_for(origin, new_edge):
    relay = new_edge()
    relay.follow(origin)
    origin.send(2000)
    ring = relay.stream.ring
    assert ring.first > 0
    packet = ring.get(ring.first)
    part = relay.proofs.get(packet.segment, packet.part)
    voucher = voucher_of(relay)
    assert part is None or voucher.vouch(part) is None
    gone = msgspec.structs.replace(relay.proofs.get(*newest(relay)), segment=1)
    assert voucher.vouch(gone) is None


def newest(relay):
    ring = relay.stream.ring
    return max(
        (p.segment, p.part) for p in ring.slice(ring.first, ring.next) if relay.proofs.get(p.segment, p.part)
    )


def test_a_message_is_within_its_bound(origin):
    part = PartSigned(
        2**32 - 1, NUMBER_MAX, 2**32 - 1, TARGET_US_MAX, TARGET_US_MAX, True, bytes(32), bytes(32), bytes(64)
    )
    assert len(signed_message(Identity("x" * 63, NUMBER_MAX), bytes(32), part)) <= MESSAGE_BYTES_MAX


def test_a_want_may_say_that_there_is_nobody_else(edge):
    assert edge.replica.adopt(last_resort=True).last_resort
    assert not edge.replica.adopt().last_resort
    assert not edge.replica.want().last_resort
    old = msgspec.msgpack.encode((8, [], 0, 0, None))
    assert msgspec.msgpack.decode(old, type=Want) == Want()
