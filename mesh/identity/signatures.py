"""Checking who signed what, each statement once."""

import hashlib
from collections import OrderedDict

from mesh.errors import Refused
from mesh.identity.claim import Chain, signed_message
from mesh.model import Verify

DIGEST_BYTES = 32
KNOWN_MAX = 4096  # four statements for each of 1000 nodes; about 500 kB


def check_signatures(chain: Chain, verify: Verify) -> None:
    """Raise Refused at the first statement, from the network key on, that was not signed by the one before.

    A stranger cannot have the network key's signature on anything new, so what it invents costs one check.
    """
    for at, link in enumerate(chain.links):
        message = signed_message(chain.network, link.statement, link.body)
        if not verify(chain.issuer(at), message, link.signature):
            raise Refused("a signature in its chain of claims is forged")


class KnownSignatures:
    """A `Verify` that remembers good answers of another, the last KNOWN_MAX of them.

    Members show the same statements on every link and in every record. What was not signed is never
    remembered, so a stranger cannot push anything out.
    """

    def __init__(self, verify: Verify) -> None:
        self._verify = verify
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __call__(self, node_id: bytes, message: bytes, signature: bytes) -> bool:
        # Keys and signatures have one length when parsed, so the parts cannot be shifted. 256 bits: a member
        # could search for two messages with one shorter digest, one signed by itself, one in another's name.
        name = hashlib.blake2b(node_id + signature + message, digest_size=DIGEST_BYTES).digest()
        if name in self._known:
            self._known.move_to_end(name)
            return True
        if not self._verify(node_id, message, signature):
            return False
        self._known[name] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return True
