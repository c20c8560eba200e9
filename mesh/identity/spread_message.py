"""Messages between neighbours about who was revoked, which invites were used, and what members say.

MessagePack arrays whose first element is the kind, at most MESSAGE_BYTES_MAX, on an authenticated link. The
facts inside are signed by the owner, by who holds an invite or by a member, and opaque here. Facts are named
by the 16-byte digest of their bytes: with shorter names the holder of an invite could search for two claims
with one name, and show each to one half of the network.
"""

from enum import IntEnum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from mesh.errors import WireError
from mesh.identity.claim import CHAIN_BYTES_MAX
from mesh.identity.notice import NOTICE_BYTES_MAX
from mesh.identity.revocation import BODY_BYTES_MAX
from mesh.identity.wire import DIGEST_BYTES, decode_untrusted, encode

MESSAGE_BYTES_MAX = 64 * 1024  # a frame on every carrier
REVOCATION_BYTES_MAX = BODY_BYTES_MAX + 200  # as `parse_revocation_untrusted`; one fits a message
FACTS_MAX = 128  # signatures to check for one message: 15 ms
BATCH_BYTES = 16 * 1024  # of facts in one message, unless one fact is larger
IDS_MAX = 2048  # 32 KiB
BUCKETS = 256  # ranges of ids by their first byte: 40 ids in each of a full table
REASON_LENGTH_MAX = 200


class Fact(IntEnum):
    """What a message is about."""

    REVOCATION = 0
    USE = 1
    NOTICE = 2


Fingerprint: TypeAlias = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
IdBytes: TypeAlias = Annotated[bytes, Meta(max_length=IDS_MAX * DIGEST_BYTES)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 32)]


class Digest(msgspec.Struct, array_like=True, frozen=True, tag=1, forbid_unknown_fields=True):
    """All that the sender knows, in short. Who knows something else answers."""

    revocations: Fingerprint
    revocation_count: Count
    uses: Fingerprint
    use_count: Count
    notices: Fingerprint
    notice_count: Count


class Buckets(msgspec.Struct, array_like=True, frozen=True, tag=2, forbid_unknown_fields=True):
    """The fingerprints of the ids with each first byte: list yours where they differ."""

    fact: Fact
    fingerprints: Annotated[bytes, Meta(min_length=BUCKETS * DIGEST_BYTES, max_length=BUCKETS * DIGEST_BYTES)]


class Ids(msgspec.Struct, array_like=True, frozen=True, tag=3, forbid_unknown_fields=True):
    """All ids of the sender that begin with `prefix`: ask for those you lack, send those that I lack."""

    fact: Fact
    prefix: Annotated[bytes, Meta(max_length=1)]
    ids: IdBytes


class Need(msgspec.Struct, array_like=True, frozen=True, tag=4, forbid_unknown_fields=True):
    """Send these."""

    fact: Fact
    ids: IdBytes


class RevocationBatch(msgspec.Struct, array_like=True, frozen=True, tag=5, forbid_unknown_fields=True):
    """Revocations, each as it was signed."""

    facts: Annotated[
        list[Annotated[bytes, Meta(max_length=REVOCATION_BYTES_MAX)]], Meta(max_length=FACTS_MAX)
    ]


class UseBatch(msgspec.Struct, array_like=True, frozen=True, tag=6, forbid_unknown_fields=True):
    """Chains that use invites."""

    facts: Annotated[list[Annotated[bytes, Meta(max_length=CHAIN_BYTES_MAX)]], Meta(max_length=FACTS_MAX)]


class Renew(msgspec.Struct, array_like=True, frozen=True, tag=7, forbid_unknown_fields=True):
    """My claim ends in a while: sign me a new one."""


class Renewal(msgspec.Struct, array_like=True, frozen=True, tag=8, forbid_unknown_fields=True):
    """The answer to `Renew`: a chain, or why there is none."""

    chain: Annotated[bytes, Meta(max_length=CHAIN_BYTES_MAX)] = b""
    reason: Annotated[str, Meta(max_length=REASON_LENGTH_MAX)] = ""


class Show(msgspec.Struct, array_like=True, frozen=True, tag=9, forbid_unknown_fields=True):
    """My claim was renewed: this chain replaces the one that I showed when we met."""

    chain: Annotated[bytes, Meta(max_length=CHAIN_BYTES_MAX)]


class NoticeBatch(msgspec.Struct, array_like=True, frozen=True, tag=10, forbid_unknown_fields=True):
    """Notices, each as it was signed."""

    facts: Annotated[list[Annotated[bytes, Meta(max_length=NOTICE_BYTES_MAX)]], Meta(max_length=FACTS_MAX)]


Batch: TypeAlias = RevocationBatch | UseBatch | NoticeBatch
Message: TypeAlias = Digest | Buckets | Ids | Need | Batch | Renew | Renewal | Show

_decoder: "msgspec.msgpack.Decoder[Message]" = msgspec.msgpack.Decoder(Message)
encode_message = encode


def parse_message_untrusted(data: bytes) -> Message:
    """One whole message; raises WireError when it is too large, of an unknown kind, or out of any bound."""
    message = decode_untrusted(_decoder, data, MESSAGE_BYTES_MAX, "a message about membership")
    if isinstance(message, Ids | Need) and len(message.ids) % DIGEST_BYTES:
        raise WireError("a message about membership: part of an id")
    return message


def split_ids(ids: bytes) -> list[bytes]:
    """The ids in the bytes of a message."""
    return [ids[at : at + DIGEST_BYTES] for at in range(0, len(ids), DIGEST_BYTES)]
