"""Records on the wire."""

import hashlib

import pytest

from mesh.directory.record import (
    KIND_MAX,
    PAYLOAD_BYTES_MAX,
    Kind,
    is_signed,
    parse_record_untrusted,
    sign_record,
)
from mesh.errors import WireError
from mesh.membership.message import BLOB_BYTES_MAX


class Signer:
    node_id = b"o" * 32

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(self.node_id + message).digest()


def verify(node_id: bytes, message: bytes, signature: bytes) -> bool:
    return hashlib.blake2b(node_id + message).digest() == signature


def test_there_and_back() -> None:
    record = sign_record(Signer(), b"n" * 32, 3, Kind.WHO, 4, b"me")
    parsed = parse_record_untrusted(record.blob)
    assert parsed == record and parsed.key == (b"o" * 32, Kind.WHO)
    assert is_signed(parsed, b"n" * 32, verify)
    assert not is_signed(parsed, b"m" * 32, verify), "a record of another network"
    assert len(record.blob) == 104 + len(b"me"), "what a record costs beside its payload"


def test_kinds_of_later_versions_are_kept() -> None:
    assert parse_record_untrusted(sign_record(Signer(), b"n" * 32, 1, KIND_MAX, 1, b"").blob).kind == KIND_MAX
    with pytest.raises(WireError):
        parse_record_untrusted(sign_record(Signer(), b"n" * 32, 1, KIND_MAX + 1, 1, b"").blob)


def test_largest_payload_fits() -> None:
    record = sign_record(Signer(), b"n" * 32, 2**63, Kind.STREAMS, 2**63, b"s" * PAYLOAD_BYTES_MAX)
    assert len(record.blob) <= BLOB_BYTES_MAX
    assert parse_record_untrusted(record.blob) == record


@pytest.mark.parametrize("blob", [b"", b"x" * 64, b"x" * 65, b"x" * (BLOB_BYTES_MAX + 1)])
def test_garbage(blob: bytes) -> None:
    with pytest.raises(WireError):
        parse_record_untrusted(blob)
