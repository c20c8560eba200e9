"""How a node's stream keys are told to the others: pages of digests, each the payload of a notice. Pure.

A page stays as it is while its keys do: one key made or revoked changes one page, whatever else there is.
Labels are not told; who wrote them wrote them for this node.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from fwnode.keys import DIGEST_BYTES, KEY_ID, StreamKey, is_stream_pattern, maker_digest
from mesh.errors import WireError
from mesh.identity.notice import PAYLOAD_BYTES_MAX, SLOTS

FORMAT: Literal[1] = 1
PAGE_KEYS_MAX = 128  # more do not fit
AROUND_BYTES = 8  # MessagePack's heads of the page and of its keys

Digest: TypeAlias = Annotated[bytes, Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class SharedKey(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What others are told of a key."""

    id: Annotated[str, Meta(max_length=8)]
    digest: Digest  # `maker_digest`
    pattern: Annotated[str, Meta(max_length=63)]
    created_unix_s: Annotated[int, Meta(ge=0, le=1 << 40)]


class _Page(msgspec.Struct, array_like=True, frozen=True):
    format: Literal[1]
    keys: Annotated[list[SharedKey], Meta(max_length=PAGE_KEYS_MAX)]


_decoder = msgspec.msgpack.Decoder(_Page)
_encode = msgspec.msgpack.Encoder().encode


class Pages:
    """This node's pages, as they follow its keys."""

    def __init__(self, maker: bytes) -> None:
        self._maker = maker
        self._pages: list[list[SharedKey]] = [[] for _ in range(SLOTS)]

    def remember(self, slot: int, payload: bytes) -> None:
        """What this node said before its last start, so that it need not say the same in other pages."""
        try:
            self._pages[slot] = parse_page_untrusted(payload)
        except WireError:
            self._pages[slot] = []  # of a later version of this program: said anew

    def payloads(self, keys: Iterable[StreamKey]) -> list[bytes]:
        """What to say, a payload for each slot. Keys that find no room are left out."""
        wanted = {shared.digest: shared for shared in (self._shared(key) for key in keys if not key.local)}
        for page in self._pages:
            page[:] = [wanted.pop(shared.digest) for shared in page if shared.digest in wanted]
        sizes = [AROUND_BYTES + sum(_size(shared) for shared in page) for page in self._pages]
        for shared in wanted.values():
            size = _size(shared)
            for slot, page in enumerate(self._pages):
                if sizes[slot] + size <= PAYLOAD_BYTES_MAX and len(page) < PAGE_KEYS_MAX:
                    page.append(shared)
                    sizes[slot] += size
                    break
        return [_encode(_Page(FORMAT, page)) if page else b"" for page in self._pages]

    def _shared(self, key: StreamKey) -> SharedKey:
        digest = maker_digest(key.digest, self._maker)
        return SharedKey(key.id, digest, key.pattern, key.created_unix_s)


def parse_page_untrusted(payload: bytes) -> list[SharedKey]:
    """The keys of a page; raises WireError. What cannot be a key is left out."""
    try:
        page = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a page of stream keys: {error}") from None
    return [key for key in page.keys if KEY_ID.fullmatch(key.id) and is_stream_pattern(key.pattern)]


def stream_keys(shared: Sequence[SharedKey], maker: bytes, maker_name: str) -> list[StreamKey]:
    """The keys of another node's page."""
    return [
        StreamKey(key.id, key.digest, key.pattern, "", key.created_unix_s, maker=maker, maker_name=maker_name)
        for key in shared
    ]


def _size(shared: SharedKey) -> int:
    return len(_encode(shared))
