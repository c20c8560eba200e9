"""The network's owner key as one line, encrypted with a passphrase. Pure, but slow: call it in a thread.

fwowner1…    public key, Argon2id cost, salt, nonce, XSalsa20-Poly1305 box of the secret key
"""

import hmac
import unicodedata
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from mesh.errors import Refused, StateError, Unavailable
from mesh.identity.key import SEED_BYTES, SecretKey
from mesh.identity.line import read_line_untrusted, write_line
from mesh.identity.wire import PublicKey, decode_untrusted, encode

PREFIX = "fwowner"
VERSION = 1
WHAT = "an owner key"
SALT_BYTES: int = argon2id.SALTBYTES
NONCE_BYTES: int = SecretBox.NONCE_SIZE
ENTROPY_BYTES = SALT_BYTES + NONCE_BYTES
BOX_BYTES = SEED_BYTES + 16  # Poly1305's tag
CONTENT_BYTES_MAX = 256
PASSPHRASE_CHARACTERS_MIN = 10  # with the cost below, a random word or two more than that is out of reach
PASSPHRASE_CHARACTERS_MAX = 1024
PASSES_MAX = 64  # a line from a stranger must not keep this machine busy for minutes
MEMORY_BYTES_MAX = 1 << 30
RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What trying one passphrase costs. RFC 9106 4: its second recommendation has 64 MiB, for machines with
    little memory; more passes make up for libsodium's single lane. 0.25 to 1 s, *measured*."""

    passes: int = 8
    memory_bytes: int = 64 << 20


class _Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    network: PublicKey
    passes: Annotated[int, msgspec.Meta(ge=argon2id.OPSLIMIT_MIN, le=PASSES_MAX)]
    memory_bytes: Annotated[int, msgspec.Meta(ge=argon2id.MEMLIMIT_MIN, le=MEMORY_BYTES_MAX)]
    salt: Annotated[bytes, msgspec.Meta(min_length=SALT_BYTES, max_length=SALT_BYTES)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    box: Annotated[bytes, msgspec.Meta(min_length=BOX_BYTES, max_length=BOX_BYTES)]


_wires = msgspec.msgpack.Decoder(_Wire)


@dataclass(frozen=True, slots=True)
class OwnerExport:
    """An exported owner key, still closed."""

    network: bytes
    wire: _Wire = field(repr=False)

    def open(self, passphrase: str) -> SecretKey:
        """The owner key. Raises Refused for a wrong passphrase, Unavailable without memory to try it."""
        cost = Cost(self.wire.passes, self.wire.memory_bytes)
        try:
            seed = SecretBox(_stretch(passphrase, self.wire.salt, cost)).decrypt(
                self.wire.box, self.wire.nonce
            )
        except CryptoError:
            raise Refused("the passphrase is wrong, or the line was altered") from None
        key = SecretKey(seed)
        if not hmac.compare_digest(key.node_id, self.network):
            raise Refused("the line was altered: it names another network than its key")
        return key


def export_owner(key: SecretKey, passphrase: str, entropy: bytes, cost: Cost | None = None) -> str:
    """One line with the owner key for a safe place. `entropy` is ENTROPY_BYTES random bytes.

    Raises Refused when the passphrase is too short or too long, Unavailable without memory.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise StateError(f"an export needs {ENTROPY_BYTES} random bytes")
    if not PASSPHRASE_CHARACTERS_MIN <= len(passphrase) <= PASSPHRASE_CHARACTERS_MAX:
        raise Refused(f"the passphrase must have at least {PASSPHRASE_CHARACTERS_MIN} characters, one line")
    cost = cost or Cost()
    salt, nonce = entropy[:SALT_BYTES], entropy[SALT_BYTES:]
    box = SecretBox(_stretch(passphrase, salt, cost)).encrypt(key.seed, nonce).ciphertext
    wire = _Wire(key.node_id, cost.passes, cost.memory_bytes, salt, nonce, box)
    return write_line(PREFIX, VERSION, encode(wire))


def parse_owner_untrusted(text: str) -> OwnerExport:
    """An exported key from what somebody pasted. Raises WireError that says what is wrong with the line."""
    content = read_line_untrusted(PREFIX, VERSION, text, WHAT)
    wire = decode_untrusted(_wires, content, CONTENT_BYTES_MAX, WHAT)
    return OwnerExport(wire.network, wire)


def _stretch(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    # One passphrase is typed in several ways: composed or not, with the blanks that pasting adds.
    typed = unicodedata.normalize("NFKC", passphrase.strip()).encode("utf-8", "surrogatepass")
    try:
        return argon2id.kdf(SecretBox.KEY_SIZE, typed, salt, cost.passes, cost.memory_bytes)
    except (RuntimeError, MemoryError):
        mib = cost.memory_bytes >> 20
        raise Unavailable(f"trying a passphrase needs {mib} MiB of memory: free some", RETRY_S) from None
