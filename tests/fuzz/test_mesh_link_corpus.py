"""Replays what strangers and peers may send on a link: `good-*` is taken, `bad-*` raises WireError, `taken-*`
parses and then ends the link. The second word names the parser. Cut anywhere or with any byte changed, a file
raises only WireError."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from mesh.errors import WireError
from mesh.identity.invite import Terms, enrol, make_invite
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership, found_network
from mesh.identity.spread import Spread, Tell
from mesh.identity.spread_message import parse_message_untrusted
from mesh.link.control import parse_control_untrusted
from mesh.link.frame import HEADER_BYTES, FrameReader, encode_frame
from mesh.link.hello import (
    HelloReader,
    parse_answer_untrusted,
    parse_server_hello_untrusted,
    parse_verdict_untrusted,
)
from mesh.link.knock import check_knock_untrusted

NOW = 1_800_000_000
OWNER = SecretKey(hashlib.sha256(b"owner").digest())
CORPUS = sorted((Path(__file__).parent / "mesh_link").iterdir())
CHANGES = (0x01, 0x20, 0x80, 0xFF)
CHANGED_PLACES_MAX = 200  # of a file; the others are of a kind with them


def greeting(data: bytes) -> None:
    """A message with its length before it, as it would be read from a socket."""
    reader, at = HelloReader(), 0
    while at < len(data) and reader.wanted:
        size = min(reader.wanted, 7)
        found = reader.feed(data[at : at + size])
        at += size
        assert (found is not None) == (not reader.wanted)


def frames(data: bytes) -> None:
    """Whole and byte by byte give the same frames, and what they were made of."""
    found = FrameReader().feed(data)
    reader = FrameReader()
    assert [frame for byte in data for frame in reader.feed(bytes([byte]))] == found
    whole = b"".join(encode_frame(kind, body) for kind, body in found)
    assert data.startswith(whole)
    assert len(whole) == sum(HEADER_BYTES + len(body) for _, body in found)


def knock(data: bytes) -> None:
    check_knock_untrusted(data.decode("utf-8", "replace"), OWNER.node_id)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "serverhello": parse_server_hello_untrusted,
    "answer": parse_answer_untrusted,
    "verdict": parse_verdict_untrusted,
    "control": parse_control_untrusted,
    "spread": parse_message_untrusted,
    "greeting": greeting,
    "frames": frames,
    "knock": knock,
}


def expected_and_parser(path: Path) -> tuple[str, Callable[[bytes], object]]:
    expected, parser = path.stem.split("-")[:2]
    return expected, PARSERS[parser]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_replay(path: Path) -> None:
    expected, parse = expected_and_parser(path)
    if expected != "bad":
        parse(path.read_bytes())
        return
    with pytest.raises(WireError):
        parse(path.read_bytes())


@pytest.mark.parametrize(
    "path", [path for path in CORPUS if path.stem.startswith("good")], ids=lambda path: path.stem
)
def test_near_misses(path: Path) -> None:
    _, parse = expected_and_parser(path)
    data = path.read_bytes()
    step = -(-len(data) // CHANGED_PLACES_MAX) or 1
    for at in range(0, len(data), step):
        for near in (data[:at], *(data[:at] + bytes([data[at] ^ x]) + data[at + 1 :] for x in CHANGES)):
            try:
                parse(near)
            except WireError:
                pass


@pytest.mark.parametrize("path", [p for p in CORPUS if "-spread-" in p.stem], ids=lambda path: path.stem)
def test_a_node_survives(path: Path) -> None:
    own = found_network(OWNER, SecretKey(bytes(32)).node_id, "here", NOW)
    invite = make_invite(
        OWNER,
        OWNER.node_id,
        Terms(uses=2),
        enrolment_seed=hashlib.sha256(b"invite").digest(),
        seeds=(),
        now_unix_s=NOW,
    )
    peer = enrol(invite, SecretKey(hashlib.sha256(b"peer").digest()).node_id, "peer", NOW).chain
    membership = Membership(own)
    membership.check(peer, NOW)
    spread = Spread(membership, OWNER, Random(1), 0.0)
    spread.link_up(peer.node_id, peer, 0.0)
    if path.stem.startswith("good"):
        spread.receive(peer.node_id, path.read_bytes(), 1.0, NOW)
    else:
        with pytest.raises(WireError):
            spread.receive(peer.node_id, path.read_bytes(), 1.0, NOW)
    for second in range(2, 60):
        spread.on_deadline(float(second), NOW + second)
        for output in spread.outputs():
            if isinstance(output, Tell):
                parse_message_untrusted(output.data)
    assert membership.own is own


def test_every_kind_is_there() -> None:
    found = {tuple(path.stem.split("-")[:2]) for path in CORPUS}
    assert {parser for _, parser in found} == set(PARSERS)
    assert {(expected, parser) for expected in ("good", "bad") for parser in PARSERS} <= found
