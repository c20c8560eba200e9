"""Replays gossip bytes: `message-*` through a node, signed blobs through their parsers; `bad-*` raise."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from zlib import crc32

import pytest

from mesh.directory.facts import Who, parse_fact_untrusted
from mesh.directory.gossip import Gossip
from mesh.directory.record import parse_record_untrusted
from mesh.errors import WireError
from mesh.membership.message import Adopt, encode, parse_message_untrusted
from mesh.membership.suspicion import parse_accusation_untrusted

CORPUS = sorted((Path(__file__).parent / "mesh_gossip").glob("*.bin"))
NETWORK = b"n" * 32
PEER = b"p" * 32


class Signer:
    node_id = b"m" * 32

    def sign(self, message: bytes) -> bytes:
        return b"".join(crc32(message, seed).to_bytes(4, "big") for seed in range(16))


def verify(node_id: bytes, message: bytes, signature: bytes) -> bool:
    """As the blobs were signed: a checksum after eight unique bytes."""
    return int.from_bytes(signature[8:12], "big") == crc32(node_id + message)


PARSERS: dict[str, Callable[[bytes], object]] = {
    "message": parse_message_untrusted,
    "record": parse_record_untrusted,
    "accusation": lambda blob: parse_accusation_untrusted(blob, NETWORK, verify),
    "who": lambda blob: parse_fact_untrusted(Who, blob),
}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_parse(path: Path) -> None:
    words = path.stem.split("-")
    parse = PARSERS[words[1] if words[0] == "bad" else words[0]]
    if words[0] == "bad":
        with pytest.raises(WireError):
            parse(path.read_bytes())
    else:
        assert parse(path.read_bytes()) is not None


@pytest.mark.parametrize("path", [p for p in CORPUS if "message" in p.stem], ids=lambda path: path.stem)
@pytest.mark.parametrize("is_neighbour", [False, True], ids=["stranger", "neighbour"])
def test_node_survives(path: Path, is_neighbour: bool) -> None:
    gossip = Gossip(Signer(), NETWORK, verify, Random(1), 1, 0.0)
    gossip.publish(1, b"me", 0.0)
    gossip.link_up(PEER, 0.0)
    if is_neighbour:
        gossip.receive(PEER, encode(Adopt(True)), 0.0)
    gossip.outputs()
    bad = path.stem.startswith("bad")
    if bad:
        with pytest.raises(WireError):
            gossip.receive(PEER, path.read_bytes(), 1.0)
    else:
        gossip.receive(PEER, path.read_bytes(), 1.0)
    for second in range(2, 30):
        gossip.on_deadline(float(second))
    assert not (bad and PEER in gossip.overlay.links)
    assert gossip.directory.record(Signer.node_id, 1) is not None
