"""Keys sign, compare and never print themselves."""

import pytest

from mesh.errors import StateError
from mesh.identity.key import SecretKey, verify

# RFC 8032 7.1, test 2
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_rfc_vector() -> None:
    key = SecretKey(SEED)
    assert key.node_id == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert verify(PUBLIC, b"\x72", SIGNATURE)


@pytest.mark.parametrize(
    ("node_id", "message", "signature"),
    [
        (PUBLIC, b"\x73", SIGNATURE),
        (PUBLIC, b"\x72", bytes(64)),
        (PUBLIC, b"\x72", SIGNATURE[:63]),
        (PUBLIC[:31], b"\x72", SIGNATURE),
        (bytes(32), b"\x72", SIGNATURE),
        (b"\xff" * 32, b"\x72", SIGNATURE),
        (PUBLIC, b"", b""),
    ],
)
def test_everything_else_is_false(node_id: bytes, message: bytes, signature: bytes) -> None:
    assert not verify(node_id, message, signature)


def test_signature_made_non_canonical_is_false() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(SIGNATURE[32:], "little") + order
    assert not verify(PUBLIC, b"\x72", SIGNATURE[:32] + scalar.to_bytes(32, "little"))


def test_printing_shows_no_secret() -> None:
    key = SecretKey(SEED)
    for text in (repr(key), str(key), f"{key}"):
        assert SEED.hex() not in text
        assert repr(SEED)[2:-1] not in text
    assert repr(key) == "SecretKey(of 3d4017c3)"


def test_equality() -> None:
    assert SecretKey(SEED) == SecretKey(SEED)
    assert hash(SecretKey(SEED)) == hash(SecretKey(SEED))
    assert SecretKey(SEED) != SecretKey(bytes(32))
    assert SecretKey(SEED) != SEED


def test_wrong_seed() -> None:
    with pytest.raises(StateError):
        SecretKey(b"short")
