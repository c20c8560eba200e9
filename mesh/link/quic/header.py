"""What a bulk stream of a QUIC connection begins with: its purpose and argument. Pure.

Four bytes of length, big endian, and MessagePack, as the greeting has it.
"""

from typing import Annotated

import msgspec

from mesh.errors import WireError
from mesh.identity.wire import encode
from mesh.link.hello import ARGUMENT_BYTES_MAX, LENGTH_BYTES, TEXT_LENGTH_MAX, Text
from mesh.link.text import one_line

HEADER_BYTES_MAX = ARGUMENT_BYTES_MAX + 4 * TEXT_LENGTH_MAX + 16  # UTF-8 has at most four bytes a character


class StreamHeader(msgspec.Struct, frozen=True, array_like=True):
    """Which service the stream is for."""

    purpose: Text
    argument: Annotated[bytes, msgspec.Meta(max_length=ARGUMENT_BYTES_MAX)]


_headers = msgspec.msgpack.Decoder(StreamHeader)


def pack_header(purpose: str, argument: bytes) -> bytes:
    """The first bytes of a stream."""
    body = encode(StreamHeader(purpose, argument))
    assert len(body) <= HEADER_BYTES_MAX
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def parse_header_untrusted(data: bytes) -> StreamHeader:
    """A header as HelloReader gives it. Raises WireError. The purpose is fit to show."""
    if len(data) > HEADER_BYTES_MAX:
        raise WireError(f"a stream's header of {len(data)} bytes, at most {HEADER_BYTES_MAX} are allowed")
    try:
        header = _headers.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a stream's header: {error}") from None
    return StreamHeader(one_line(header.purpose, TEXT_LENGTH_MAX), header.argument)
