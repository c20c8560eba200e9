"""The admin password's hash."""

import pytest

from fwnode.password import hash_password, is_password_hash, verify_password

SALT = bytes(range(16))


def test_only_the_password_verifies() -> None:
    encoded = hash_password("pässword", SALT)
    assert encoded.startswith("scrypt$16384$") and "pässword" not in encoded
    assert verify_password("pässword", encoded)
    assert not verify_password("passw0rd", encoded)
    assert hash_password("pässword", SALT[::-1]) != encoded


@pytest.mark.parametrize(
    "text",
    [
        "",
        "scrypt",
        "md5$1$2$3",
        "scrypt$16384$c2FsdA$aGFzaA",
        "scrypt$x$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$999999$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$16385$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "scrypt$16384$é$é",
    ],
)
def test_damaged_hashes_are_no_hashes(text: str) -> None:
    assert not is_password_hash(text)
    assert not verify_password("", text)
