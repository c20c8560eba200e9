"""What nodes say of themselves by mDNS: names, the TXT record, and reading those of strangers. Pure.

Anybody on the LAN can say anything here. What is read are addresses worth dialling; who answers there proves
itself by its certificate and chain.
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from mesh.discovery.candidates import is_usable, join_address
from mesh.errors import WireError
from mesh.model import KEY_BYTES, NetworkId, NodeId

SERVICE_TYPE = "_fwnode._udp.local."
TAG_BYTES = 8  # tells the networks of one LAN apart; it need not withstand an attack
TEXT_BYTES_MAX = 400  # RFC 6763 6.2: small enough for one packet with the rest; ours is 94
LABEL_BYTES_MAX = 63  # RFC 1035 2.3.4
ADDRESSES_MAX = 8  # of one answer; a home host has two or three
PORT_MAX = 65535
_PERSON = b"fwnode mdns tag"
_NODE_SHOWN = 16  # hexadecimal digits of the key in names: unique on a LAN


@dataclass(frozen=True, slots=True)
class MdnsOwn:
    """What this node says of itself."""

    network: NetworkId
    node_id: NodeId
    port: int  # of the mesh listener, TCP
    name: str  # for people


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a TXT record says."""

    tag: str
    node_id: NodeId


def network_tag(network: NetworkId) -> str:
    """16 hexadecimal digits that members know their network by; they do not give its key away."""
    return hashlib.blake2b(network, digest_size=TAG_BYTES, person=_PERSON).hexdigest()


def instance_name(name: str, node_id: NodeId) -> str:
    """The full DNS-SD instance name: the node's name for people, made unique by its key."""
    unique = node_id.hex()[:_NODE_SHOWN]
    # A dot would end the label; zeroconf refuses control characters.
    plain = "".join(c if c.isprintable() and c != "." else "-" for c in name)
    room = LABEL_BYTES_MAX - len(unique) - 1
    shown = plain.encode("utf-8", "replace")[:room].decode("utf-8", "ignore").strip()
    return f"{f'{shown} {unique}'.strip()}.{SERVICE_TYPE}"


def host_name(node_id: NodeId) -> str:
    """The name that its address records have: of the node, not of the host, as one host may run several."""
    return f"fwnode-{node_id.hex()[:_NODE_SHOWN]}.local."


def encode_text(announcement: Announcement) -> bytes:
    """The TXT record's data (RFC 6763 6.3)."""
    strings = (f"net={announcement.tag}".encode(), f"node={announcement.node_id.hex()}".encode())
    return b"".join(bytes([len(string)]) + string for string in strings)


def parse_text_untrusted(data: bytes) -> Announcement:
    """What a TXT record says; raises WireError. Unknown keys are skipped."""
    fields = _fields_untrusted(data)
    tag, node = fields.get(b"net", b""), fields.get(b"node", b"")
    return Announcement(_hex_untrusted(tag, TAG_BYTES).hex(), _hex_untrusted(node, KEY_BYTES))


def addresses_untrusted(hosts: Iterable[str], port: int | None, loopback: bool) -> list[str]:
    """Numeric hosts of an answer as "host:port", those that can be dialled; raises WireError for the port.

    Loopback addresses only if asked for: nobody on the LAN may send this node to its own host's services.
    Link-local ones never: they mean nothing without an interface.
    """
    if port is None or not 0 < port <= PORT_MAX:
        raise WireError("no port")
    found: dict[str, None] = {}
    for host in hosts:
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            continue
        if is_usable(ip) and ip.is_loopback <= loopback and getattr(ip, "ipv4_mapped", None) is None:
            found[join_address(str(ip), port)] = None
        if len(found) == ADDRESSES_MAX:
            break
    return list(found)


def _fields_untrusted(data: bytes) -> dict[bytes, bytes]:
    if len(data) > TEXT_BYTES_MAX:
        raise WireError("TXT record is too long")
    fields: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise WireError("TXT record is cut short")
        key, equals, value = data[at + 1 : end].partition(b"=")
        if equals:
            fields.setdefault(key.lower(), value)  # RFC 6763 6.4: the first counts
        at = end
    return fields


def _hex_untrusted(text: bytes, length: int) -> bytes:
    if len(text) != 2 * length:
        raise WireError("TXT record has no network or node")
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        raise WireError("TXT record's network or node is not hexadecimal") from None
