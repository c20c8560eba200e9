"""A node's certificate: self-signed, its Ed25519 key is the node's key. Pure.

Only the key in it means anything; names and dates are the same for all, because whom to believe is for the
chain of claims to say. So a certificate of a node is known byte by byte but for its key and its signature
(X.509 as in RFC 5280, Ed25519 in it as in RFC 8410), and anything else is no certificate of a node.
"""

from base64 import encodebytes

from mesh.errors import WireError
from mesh.identity.key import SecretKey
from mesh.model import KEY_BYTES, NodeId

SIGNATURE_BYTES = 64
NAME = b"fwnode"
BEGINS, ENDS = b"000101000000Z", b"99991231235959Z"  # RFC 5280 4.1.2.5: no end

_INTEGER, _BIT_STRING, _OCTET_STRING, _OID, _UTF8 = 0x02, 0x03, 0x04, 0x06, 0x0C
_UTC_TIME, _TIME, _SEQUENCE, _SET, _VERSION = 0x17, 0x18, 0x30, 0x31, 0xA0


def _der(tag: int, *parts: bytes) -> bytes:
    """One value (ITU-T X.690 8.1): tag, length, content."""
    content = b"".join(parts)
    size = len(content)
    length = bytes((size,)) if size < 0x80 else bytes((0x81, size)) if size < 0x100 else b""
    assert length, "nothing here is longer than 255 bytes"
    return bytes((tag,)) + length + content


_ED25519 = _der(_SEQUENCE, _der(_OID, bytes((0x2B, 0x65, 0x70))))
_COMMON_NAME = _der(_OID, bytes((0x55, 0x04, 0x03)))
_WHO = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME, _der(_UTF8, NAME))))


def _unsigned(key: NodeId) -> bytes:
    return _der(
        _SEQUENCE,
        _der(_VERSION, _der(_INTEGER, b"\x02")),
        _der(_INTEGER, b"\x01"),
        _ED25519,
        _WHO,
        _der(_SEQUENCE, _der(_UTC_TIME, BEGINS), _der(_TIME, ENDS)),
        _WHO,
        _der(_SEQUENCE, _ED25519, _der(_BIT_STRING, b"\0", key)),
    )


def _signed(key: NodeId, signature: bytes) -> bytes:
    return _der(_SEQUENCE, _unsigned(key), _ED25519, _der(_BIT_STRING, b"\0", signature))


_ANY = _signed(bytes(KEY_BYTES), bytes(SIGNATURE_BYTES))
_KEY_AT = len(_ANY) - SIGNATURE_BYTES - len(_ED25519) - 3 - KEY_BYTES
CERTIFICATE_BYTES = len(_ANY)


def certificate_der(key: SecretKey) -> bytes:
    """The certificate alone."""
    return _signed(key.node_id, key.sign(_unsigned(key.node_id)))


def make_certificate(key: SecretKey) -> bytes:
    """The certificate and the private key as PEM, for `SSLContext.load_cert_chain`. A secret."""
    secret = _der(
        _SEQUENCE, _der(_INTEGER, b"\0"), _ED25519, _der(_OCTET_STRING, _der(_OCTET_STRING, key.seed))
    )
    return _pem(b"CERTIFICATE", certificate_der(key)) + _pem(b"PRIVATE KEY", secret)


def node_of_untrusted(certificate: bytes | None) -> NodeId:
    """The node whose key a certificate (DER) has. Raises WireError. TLS has checked that the peer has it."""
    if not certificate:
        raise WireError("it shows no certificate of a node")
    key = certificate[_KEY_AT : _KEY_AT + KEY_BYTES]
    if len(certificate) != CERTIFICATE_BYTES or certificate != _signed(key, certificate[-SIGNATURE_BYTES:]):
        raise WireError("its certificate is not that of a node of fwnode")
    return key


def _pem(label: bytes, der: bytes) -> bytes:
    """RFC 7468 3."""
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, encodebytes(der), label)
