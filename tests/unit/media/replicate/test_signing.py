"""The origin's word on each part."""

import itertools
from hashlib import sha256

import msgspec
import pytest

from media.replicate.signing import (
    CHAIN_BEGIN,
    Fault,
    Identity,
    Signer,
    Verifier,
    leaf_of,
    section_digest,
    signed_message,
)


@pytest.fixture
def parts(origin):
    """Every signed part of a stream of some seconds, with its leaves and its section's digest."""
    origin.send(150)
    stream = origin.stream
    packets = stream.ring.slice(0, stream.ring.next)
    listed = []
    for position in dict.fromkeys((packet.segment, packet.part) for packet in packets):
        signed = origin.proofs.get(*position)
        own = [packet for packet in packets if (packet.segment, packet.part) == position]
        if signed is not None:
            digest = section_digest(stream.section_of(own[0]), origin.signer.identity.epoch)
            listed.append((digest, [leaf_of(packet) for packet in own], signed))
    assert len(listed) >= 8
    return listed


@pytest.fixture
def verifier(origin, edge):
    return Verifier(origin.signer.identity, edge.replica._verifier._key, edge.replica._verifier._verify)


def test_all_parts_but_the_open_one_are_signed(origin, parts):
    newest = origin.window.newest()
    assert parts[-1][2].position == newest


def test_parts_verify_one_after_the_other(parts, verifier):
    assert [verifier.check(*part) for part in parts] == [None] * len(parts)


def test_the_chain_begins_with_nothing_and_links(origin, parts):
    assert parts[0][2].previous == CHAIN_BEGIN
    for (digest, _, before), (_, _, after) in itertools.pairwise(parts):
        assert after.previous == sha256(signed_message(origin.signer.identity, digest, before)).digest()


def test_one_begins_anywhere(parts, verifier):
    assert verifier.check(*parts[4]) is None
    assert verifier.check(*parts[5]) is None


def test_a_part_left_out_is_noticed(parts, verifier):
    verifier.check(*parts[2])
    assert verifier.check(*parts[4]).fault is Fault.CHAIN
    verifier.break_chain()
    assert verifier.check(*parts[4]) is None


@pytest.mark.parametrize(
    "change",
    [
        {"segment": 1},
        {"part": 77},
        {"part_target_us": 1},
        {"target_duration_us": 1},
        {"closes": True},
        {"digest": bytes(32)},
        {"previous": bytes(range(32))},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_nothing_that_is_signed_can_be_changed(parts, verifier, change):
    digest, leaves, signed = parts[0]
    assert verifier.check(digest, leaves, msgspec.structs.replace(signed, **change)).fault is Fault.SIGNATURE


def test_another_section_is_not_the_one_that_was_signed(parts, verifier):
    _, leaves, signed = parts[0]
    assert verifier.check(bytes(32), leaves, signed).fault is Fault.SIGNATURE


@pytest.mark.parametrize("identity", [Identity("other", 1_800_000_000_000_000), Identity("live", 1)])
def test_another_streams_part_is_not_this_streams(parts, verifier, identity):
    verifier.identity = identity
    assert verifier.check(*parts[0]).fault is Fault.SIGNATURE


@pytest.mark.parametrize("how", ["lost", "added", "swapped", "altered"])
def test_packets_are_the_origins(parts, verifier, how):
    digest, leaves, signed = parts[0]
    altered = {
        "lost": leaves[:-1],
        "added": [*leaves, leaves[0]],
        "swapped": [leaves[1], leaves[0], *leaves[2:]],
        "altered": [leaves[0][:-1] + b"x", *leaves[1:]],
    }[how]
    failure = verifier.check(digest, altered, signed)
    assert failure.fault is Fault.PACKETS
    assert failure.signed == signed.digest and failure.found != signed.digest


def test_a_signer_may_begin_late(origin, edge):
    origin.send(150)
    late = Signer(origin.stream, origin.signer.identity, lambda message: bytes(64))
    assert late.signed == origin.signer.signed


def test_proofs_go_with_the_packets(origin):
    origin.send(2400)
    oldest = origin.stream.ring.get(origin.stream.ring.first).segment
    assert origin.signer.signed > 150
    assert len(origin.proofs) < 60
    assert min(segment for segment, _ in origin.proofs._parts) == oldest


def test_when_the_publisher_goes_the_open_part_is_signed_and_closes(origin, clock):
    origin.send(100)
    signed = origin.signer.signed
    origin.publisher.writer.close("bye", clock.now)
    assert origin.signer.signed == signed + 1
    packet = origin.stream.ring.get(origin.stream.ring.next - 1)
    assert origin.proofs.get(packet.segment, packet.part).closes
    origin.signer.update(clock.now)
    assert origin.signer.signed == signed + 1
