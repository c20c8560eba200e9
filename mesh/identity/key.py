"""Ed25519 keys of nodes, networks and invites. Pure: the randomness is given as a seed."""

import hmac

from nacl import bindings
from nacl.exceptions import BadSignatureError

from mesh.errors import StateError
from mesh.model import KEY_BYTES, SIGNATURE_BYTES, NodeId, short

SEED_BYTES = 32  # RFC 8032 5.1.5


class SecretKey:
    """A private key, a `mesh.model.Signer`. Printing it shows only the public half."""

    __slots__ = ("_public", "_secret", "_seed")

    def __init__(self, seed: bytes) -> None:
        """`seed` is 32 random bytes; the same seed gives the same key."""
        if len(seed) != SEED_BYTES:
            raise StateError(f"a key is made from {SEED_BYTES} random bytes")
        self._seed = seed
        self._public, self._secret = bindings.crypto_sign_seed_keypair(seed)

    @property
    def node_id(self) -> NodeId:
        """The public half: a NodeId, a NetworkId or an invite's enrolment key."""
        return self._public

    @property
    def seed(self) -> bytes:
        """The secret itself, for the key file, an invite, an export or a certificate. Never log it."""
        return self._seed

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of `message`."""
        signed: bytes = bindings.crypto_sign(message, self._secret)
        return signed[:SIGNATURE_BYTES]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and hmac.compare_digest(self._seed, other._seed)

    def __hash__(self) -> int:
        return hash(self._public)

    def __repr__(self) -> str:
        return f"SecretKey(of {short(self._public)})"


def verify(node_id: NodeId, message: bytes, signature: bytes) -> bool:
    """Whether `node_id` signed exactly `message`. False for keys and signatures of a wrong length too.

    libsodium also refuses keys of small order and signatures that are not canonical, so nobody
    can turn one valid signature into another.
    """
    if len(node_id) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + message, node_id)
    except BadSignatureError:
        return False
    return True
