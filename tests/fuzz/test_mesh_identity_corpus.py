"""Replays what strangers may send about identity: `good-*` is taken, `bad-*` raises WireError, `refused-*`
parses and is then Refused. The second word names the parser. Cut anywhere or with any byte changed, a file
raises only WireError, or Refused where a parser checks signatures."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.errors import Refused, WireError
from mesh.identity.claim import parse_chain_untrusted
from mesh.identity.invite import enrol, parse_invite_untrusted
from mesh.identity.key import SecretKey, verify
from mesh.identity.membership import Membership, found_network
from mesh.identity.owner import parse_owner_untrusted
from mesh.identity.revocation import check_revocation, parse_revocation_untrusted

NOW = 1_800_000_000
OWNER = SecretKey(hashlib.sha256(b"owner").digest())
OWN = found_network(OWNER, SecretKey(bytes(32)).node_id, "here", NOW)
CORPUS = sorted((Path(__file__).parent / "mesh_identity").iterdir())
CHANGES = (0x01, 0x20, 0x80, 0xFF)
CHANGED_PLACES_MAX = 400  # of a file; the others are of a kind with them


def chain(data: bytes) -> None:
    Membership(OWN).check(parse_chain_untrusted(data), NOW)


def revocation(data: bytes) -> None:
    check_revocation(parse_revocation_untrusted(data), OWNER.node_id, verify)


def state(data: bytes) -> None:
    assert Membership.restore(data).state() == data


def invite(data: bytes) -> None:
    enrol(parse_invite_untrusted(data.decode("utf-8", "replace")), bytes(32), "new", NOW)


def owner(data: bytes) -> None:
    parse_owner_untrusted(data.decode("utf-8", "replace"))


READERS: dict[str, Callable[[bytes], None]] = {
    reader.__name__: reader for reader in (chain, revocation, state, invite, owner)
}
PARSERS: dict[str, Callable[[bytes], object]] = {
    "chain": parse_chain_untrusted,
    "revocation": parse_revocation_untrusted,
    "state": Membership.restore,
    "invite": lambda data: parse_invite_untrusted(data.decode("utf-8", "replace")),
    "owner": owner,
}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_replay(path: Path) -> None:
    expected, reader = path.stem.split("-")[:2]
    data = path.read_bytes()
    if expected == "good":
        READERS[reader](data)
        return
    with pytest.raises(WireError if expected == "bad" else Refused):
        READERS[reader](data)


@pytest.mark.parametrize(
    "path", [path for path in CORPUS if path.stem.startswith("good")], ids=lambda path: path.stem
)
def test_near_misses(path: Path) -> None:
    parse = PARSERS[path.stem.split("-")[1]]
    data = path.read_bytes()
    step = -(-len(data) // CHANGED_PLACES_MAX)
    for at in range(0, len(data), step):
        for near in (data[:at], *(data[:at] + bytes([data[at] ^ x]) + data[at + 1 :] for x in CHANGES)):
            try:
                parse(near)
            except (WireError, Refused) as error:
                assert isinstance(error, WireError) or parse == Membership.restore


def test_every_kind_is_there() -> None:
    found = {tuple(path.stem.split("-")[:2]) for path in CORPUS}
    assert {kind for _, kind in found} == set(READERS)
    assert {("bad", kind) for kind in READERS} <= found
