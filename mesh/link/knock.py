"""The knock: proof, in a connection's first bytes, that a stranger has heard of this network. Pure.

It travels as the server name of TLS (RFC 6066 3): `v1-<nonce>.<mac>.fwnode`, so that a server can send
everybody else away before it does any public-key work. It keeps scanners and floods of strangers cheap; it
admits nobody: whoever was ever given an invite can make one.
"""

import hmac
import re
from hashlib import blake2b

from mesh.errors import WireError
from mesh.link.model import PROTOCOL_VERSION
from mesh.model import NetworkId

NONCE_BYTES = 16
MAC_BYTES = 16
NAME_LENGTH_MAX = 253  # RFC 1035 2.3.4
PERSON = b"fwnode knock 1"
SHAPE = re.compile(r"v1-([0-9a-f]{32})\.([0-9a-f]{32})\.fwnode", re.ASCII)
VERSION = re.compile(r"v([0-9]{1,4})-[^.]*\..*fwnode", re.ASCII | re.DOTALL)


class OtherVersion(WireError):
    """The other side speaks another version of the mesh's protocol."""


def make_knock(network: NetworkId, nonce: bytes) -> str:
    """A server name for TLS. `nonce` is NONCE_BYTES random bytes."""
    assert len(nonce) == NONCE_BYTES
    return f"v{PROTOCOL_VERSION}-{nonce.hex()}.{_mac(network, nonce).hex()}.fwnode"


def check_knock_untrusted(name: str | None, network: NetworkId) -> None:
    """Raise WireError when `name` is no knock for this network, OtherVersion when it is one of another."""
    if name is None or len(name) > NAME_LENGTH_MAX:
        raise WireError("it did not knock: not a node of fwnode")
    found = SHAPE.fullmatch(name)
    if found is None:
        version = VERSION.fullmatch(name)
        if version and int(version[1]) != PROTOCOL_VERSION:
            raise OtherVersion(
                f"it speaks version {int(version[1])} of the mesh's protocol, this node {PROTOCOL_VERSION}: "
                "update the older"
            )
        raise WireError("it did not knock: not a node of fwnode")
    if not hmac.compare_digest(_mac(network, bytes.fromhex(found[1])), bytes.fromhex(found[2])):
        raise WireError("it knocked for another network")


def _mac(network: NetworkId, nonce: bytes) -> bytes:
    return blake2b(nonce, digest_size=MAC_BYTES, key=network, person=PERSON).digest()
