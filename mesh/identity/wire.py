"""Strict, bounded, canonical MessagePack for everything that is signed or sent by identity."""

import hashlib
from typing import Annotated, TypeVar

import msgspec

from mesh.errors import WireError
from mesh.model import KEY_BYTES, SIGNATURE_BYTES

TIME_MAX = 1 << 40  # seconds: far beyond any date that can be shown, far below where sums overflow 63 bits
SERIAL_MAX = (1 << 63) - 1
DIGEST_BYTES = 16  # 128 bits: finding a second statement with one's digest stays out of reach

PublicKey = Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Signature = Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
UnixSeconds = Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]
Serial = Annotated[int, msgspec.Meta(ge=0, le=SERIAL_MAX)]

T = TypeVar("T")
encode = msgspec.msgpack.Encoder().encode


def decode_untrusted(decoder: "msgspec.msgpack.Decoder[T]", data: bytes, bytes_max: int, what: str) -> T:
    """Decode one object that fills `data`. Raises WireError.

    Only the one encoding that `encode` makes is taken: otherwise a stranger could vary the bytes of a
    signed thing, and everything counted or compared by digest would count it twice.
    """
    if len(data) > bytes_max:
        raise WireError(f"{what}: {len(data)} bytes, at most {bytes_max} are allowed")
    try:
        found = decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"{what}: {error}") from None
    if encode(found) != data:
        raise WireError(f"{what}: not in its one allowed encoding")
    return found


def digest(*parts: bytes) -> bytes:
    """A 16-byte digest of parts of fixed length, or of one part."""
    return hashlib.blake2b(b"".join(parts), digest_size=DIGEST_BYTES, person=b"fwnode identity").digest()
