"""A node's certificate: self-signed, its Ed25519 key is the node's key. Pure.

Only the key in it means anything; names and dates are the same for all, because whom to believe is for the
chain of claims to say. Made from a key, so the same key makes the same bytes.
"""

import datetime
import warnings

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from mesh.errors import WireError
from mesh.identity.key import SecretKey
from mesh.model import NodeId

CERTIFICATE_BYTES_MAX = 4096  # ours has 240; room for other makers
BEGINS = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
ENDS = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)  # RFC 5280 4.1.2.5: no end


def make_certificate(key: SecretKey) -> bytes:
    """The certificate and the private key as PEM, for `SSLContext.load_cert_chain`. A secret."""
    private = Ed25519PrivateKey.from_private_bytes(key.seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fwnode")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(BEGINS)
        .not_valid_after(ENDS)
        .sign(private, None)
    )
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + secret


def node_of_untrusted(certificate: bytes | None) -> NodeId:
    """The node whose key a certificate (DER) has. Raises WireError. TLS has checked that the peer has it."""
    if not certificate or len(certificate) > CERTIFICATE_BYTES_MAX:
        raise WireError("it shows no certificate of a node")
    try:
        with warnings.catch_warnings():  # about odd certificates; the key is all that counts
            warnings.simplefilter("ignore")
            key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise WireError("its certificate cannot be read") from None
    if not isinstance(key, Ed25519PublicKey):
        raise WireError("its certificate has no Ed25519 key: not a node of fwnode")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
