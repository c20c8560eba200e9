"""Probes by which two nodes look for a path through their routers: the codec. Pure.

35 bytes: 6 (RFC 9443: not STUN, not QUIC), version, kind, tag of the session, nonce, MAC over all before.
Tag and keys come of a secret that both nodes got over a link; each end has a key of its own, so that what is
sent back to its sender, or replayed in another session, is nobody's.
"""

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from hmac import compare_digest

from mesh.errors import StateError, WireError

PROBE_BYTE = 6
VERSION = 1
SECRET_BYTES = 16
TAG_BYTES = 8  # enough to tell the sessions of one node apart; no secret
NONCE_BYTES = 8  # not to be guessed within the seconds of a session
MAC_BYTES = 16
PROBE_BYTES = 3 + TAG_BYTES + NONCE_BYTES + MAC_BYTES

_NONCE_AT = 3 + TAG_BYTES
_MAC_AT = _NONCE_AT + NONCE_BYTES
_KINDS = frozenset((1, 2, 3))


class ProbeKind(IntEnum):
    """What a probe is for."""

    PING = 1  # answer if you hear this
    PONG = 2  # the answer, with the ping's nonce
    CHOICE = 3  # a ping by the initiator: this path it is


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe, its MAC found right."""

    kind: ProbeKind
    nonce: bytes


def session_tag(secret: bytes) -> bytes:
    """TAG_BYTES by which both ends know their session."""
    return blake2b(_checked(secret), digest_size=TAG_BYTES, person=b"fwnode probe tag").digest()


def sender_key(secret: bytes, *, initiator: bool) -> bytes:
    """The key of one end's probes."""
    person = b"fwnode initiator" if initiator else b"fwnode responder"
    return blake2b(_checked(secret), digest_size=32, person=person).digest()


def encode_probe(key: bytes, tag: bytes, kind: ProbeKind, nonce: bytes) -> bytes:
    """A probe of PROBE_BYTES, by the end whose key it is."""
    head = bytes((PROBE_BYTE, VERSION, kind)) + tag + nonce
    return head + blake2b(head, digest_size=MAC_BYTES, key=key).digest()


def probe_tag_untrusted(data: bytes | memoryview) -> bytes | None:
    """The session that a datagram says it belongs to; None: no probe. Nothing is proven by it."""
    if len(data) != PROBE_BYTES or data[0] != PROBE_BYTE or data[1] != VERSION:
        return None
    return bytes(data[3:_NONCE_AT])


def parse_probe_untrusted(data: bytes | memoryview, key: bytes, tag: bytes) -> Probe:
    """A probe of the session `tag` by the end whose `key` is given; raises WireError."""
    if probe_tag_untrusted(data) != tag or data[2] not in _KINDS:
        raise WireError("not a probe of this session")
    mac = blake2b(data[:_MAC_AT], digest_size=MAC_BYTES, key=key).digest()
    if not compare_digest(mac, data[_MAC_AT:]):
        raise WireError("a probe with a wrong MAC")
    return Probe(ProbeKind(data[2]), bytes(data[_NONCE_AT:_MAC_AT]))


def _checked(secret: bytes) -> bytes:
    if len(secret) != SECRET_BYTES:
        raise StateError(f"a secret of {len(secret)} bytes, not {SECRET_BYTES}")
    return secret
