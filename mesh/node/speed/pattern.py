"""Bytes of a speed test: pseudo-random, the same at both ends, made from the request. Pure."""

import hashlib
import importlib
import struct
from functools import cache
from typing import Any

from mesh.errors import WireError
from mesh.node.speed.model import BYTES_MAX, OBJECT_BYTES

SEED_BYTES = 16
_REQUEST = struct.Struct(f"!{SEED_BYTES}sQ")
_ZEROS = bytes(OBJECT_BYTES)


def pack_request(seed: bytes, total: int) -> bytes:
    """The argument of the stream: which bytes, and how many."""
    return _REQUEST.pack(seed, total)


def parse_request_untrusted(data: bytes) -> tuple[bytes, int]:
    """Seed and total. Raises WireError."""
    if len(data) != _REQUEST.size:
        raise WireError("not a request for a speed test")
    seed, total = _REQUEST.unpack(data)
    if not 0 < total <= BYTES_MAX:
        raise WireError(f"a speed test has at most {BYTES_MAX} bytes, not {total}")
    return seed, total


def count_of(total: int) -> int:
    """How many objects so many bytes are."""
    return -(-total // OBJECT_BYTES)


def part(seed: bytes, total: int, number: int) -> bytes:
    """One object: AES in counter mode, which costs a tenth of sending it."""
    length = min(OBJECT_BYTES, total - number * OBJECT_BYTES)
    nonce = number.to_bytes(8, "big") + bytes(8)
    ciphers = _ciphers()
    stream = ciphers.Cipher(ciphers.algorithms.AES(seed), ciphers.modes.CTR(nonce)).encryptor()
    return bytes(stream.update(_ZEROS[:length]))


def digest(seed: bytes, total: int, count: int) -> str:
    """SHA-256 of the first `count` objects."""
    seen = hashlib.sha256()
    for number in range(count):
        seen.update(part(seed, total, number))
    return seen.hexdigest()


@cache
def _ciphers() -> Any:
    """Loaded by the first test: megabytes that most nodes never need."""
    return importlib.import_module("cryptography.hazmat.primitives.ciphers")
