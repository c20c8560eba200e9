"""The admin password: kept as a salted scrypt hash. Pure: the salt is given.

Unlike stream keys, which are random, people choose passwords: the hash has to be slow.
"""

import base64
import binascii
import hashlib
import hmac

import msgspec

SCHEME = "scrypt"
# RFC 7914 names N=2**14 for interactive logins: 16 MiB and about 50 ms here (measured).
COST = 2**14
BLOCK_SIZE = 8
PARALLELISM = 1
HASH_BYTES = 32
SALT_BYTES = 16
# A hash from the config file is operator input, but a typing error must not take the machine's memory.
COST_MAX = 2**17


class _Parts(msgspec.Struct, frozen=True):
    cost: int
    salt: bytes
    digest: bytes


def hash_password(password: str, salt: bytes) -> str:
    """`scrypt$N$salt$hash`, base64url without padding. `salt` is SALT_BYTES random bytes."""
    return f"{SCHEME}${COST}${_encode(salt)}${_encode(_derive(password, salt, COST))}"


def verify_password(password: str, encoded: str) -> bool:
    """Whether the password made this hash; in constant time for one hash. Takes about 50 ms of CPU."""
    parts = _parse(encoded)
    if parts is None:
        return False
    return hmac.compare_digest(_derive(password, parts.salt, parts.cost), parts.digest)


def is_password_hash(text: str) -> bool:
    """Whether `verify_password` can use this text."""
    return _parse(text) is not None


def _parse(encoded: str) -> _Parts | None:
    fields = encoded.split("$")
    if len(fields) != 4 or fields[0] != SCHEME or not fields[1].isdecimal() or len(fields[1]) > 6:
        return None
    cost = int(fields[1])
    salt, digest = _decode(fields[2]), _decode(fields[3])
    power_of_two = cost > 1 and cost & (cost - 1) == 0
    if not power_of_two or cost > COST_MAX or len(salt) < SALT_BYTES or len(digest) != HASH_BYTES:
        return None
    return _Parts(cost, salt, digest)


def _derive(password: str, salt: bytes, cost: int) -> bytes:
    memory = 128 * cost * BLOCK_SIZE * 2  # OpenSSL's limit, twice what RFC 7914 section 2 needs
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=BLOCK_SIZE, p=PARALLELISM, maxmem=memory, dklen=HASH_BYTES
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
