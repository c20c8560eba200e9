"""The owner key on paper."""

import pytest
from nacl.pwhash import argon2id

from mesh.errors import Refused, StateError, Unavailable, WireError
from mesh.identity.key import SecretKey
from mesh.identity.line import write_line
from mesh.identity.owner import ENTROPY_BYTES, Cost, OwnerExport, export_owner, parse_owner_untrusted
from mesh.identity.wire import encode

KEY = SecretKey(b"k" * 32)
CHEAP = Cost(passes=1, memory_bytes=8192)
ENTROPY = bytes(range(ENTROPY_BYTES))
PASSPHRASE = "correct horse é"
LINE = export_owner(KEY, PASSPHRASE, ENTROPY, CHEAP)


def test_there_and_back() -> None:
    found = parse_owner_untrusted(LINE.upper())
    assert found.network == KEY.node_id
    assert found.open(PASSPHRASE) == KEY
    assert found.open(" correct horse e\u0301\n") == KEY


def test_default_cost_opens() -> None:
    assert parse_owner_untrusted(export_owner(KEY, PASSPHRASE, ENTROPY)).open(PASSPHRASE) == KEY


def test_wrong_passphrase() -> None:
    with pytest.raises(Refused, match="passphrase is wrong"):
        parse_owner_untrusted(LINE).open("correct horse e")


def test_nothing_secret_is_shown() -> None:
    assert repr(KEY.seed)[2:-1] not in repr(parse_owner_untrusted(LINE))
    assert "box" not in repr(parse_owner_untrusted(LINE))


def test_another_networks_name_on_it() -> None:
    wire = parse_owner_untrusted(LINE).wire
    with pytest.raises(Refused, match="another network"):
        OwnerExport(bytes(32), wire).open(PASSPHRASE)


@pytest.mark.parametrize("passphrase", ["short", "", "x" * 1025])
def test_passphrases_that_are_not_taken(passphrase: str) -> None:
    with pytest.raises(Refused, match="at least 10"):
        export_owner(KEY, passphrase, ENTROPY, CHEAP)


def test_too_little_entropy() -> None:
    with pytest.raises(StateError):
        export_owner(KEY, PASSPHRASE, b"", CHEAP)


@pytest.mark.parametrize(("passes", "memory"), [(0, 8192), (65, 8192), (1, 8191), (1, (1 << 30) + 1)])
def test_costs_that_are_not_paid(passes: int, memory: int) -> None:
    line = write_line("fwowner", 1, encode((KEY.node_id, passes, memory, bytes(16), bytes(24), bytes(48))))
    with pytest.raises(WireError):
        parse_owner_untrusted(line)


def test_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> bytes:
        raise RuntimeError("libsodium")

    monkeypatch.setattr(argon2id, "kdf", fail)
    with pytest.raises(Unavailable, match="memory"):
        parse_owner_untrusted(LINE).open(PASSPHRASE)


def test_other_lines() -> None:
    with pytest.raises(WireError, match="not an owner key"):
        parse_owner_untrusted("fwinvite1abc")
    with pytest.raises(WireError, match="cut off"):
        parse_owner_untrusted(LINE[:-1])
