"""A gateway's answer cut into its parts. Pure.

As Go's mime/multipart writes it: each part says its length, which is used instead of a search for
the boundary in binary data, and the closing boundary proves that nothing is missing (RFC 2046 5.1).
"""

import re

import msgspec

from media.errors import WireError

PARTS_MAX = 16  # FrameWorks takes so many profiles
HEADERS_MAX_BYTES = 4096  # of one part
HEADER_LINES_MAX = 16
BOUNDARY_MAX_LETTERS = 70  # RFC 2046 5.1.1
LENGTH_MAX_DIGITS = 10

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]+")
_PARAMETER = re.compile(r';[ \t]*boundary=(?:"([^"]*)"|([^;\s]*))[ \t]*(?:;|$)', re.IGNORECASE)


class Part(msgspec.Struct, frozen=True):
    """One part of the answer; `name` is its Rendition-Name."""

    name: str
    content_type: str  # without parameters, lower case
    data: bytes


def boundary_untrusted(content_type: str) -> str:
    """The boundary of a Content-Type header. Raises WireError when it is no multipart/mixed."""
    if content_type.partition(";")[0].strip().lower() != "multipart/mixed":
        raise WireError("the answer is not multipart/mixed")
    found = _PARAMETER.search(content_type)
    boundary = (found[1] or found[2] or "") if found else ""
    if len(boundary) > BOUNDARY_MAX_LETTERS or not _BOUNDARY.fullmatch(boundary):
        raise WireError("the answer's boundary is missing or has strange letters")
    return boundary


def split_parts_untrusted(body: bytes, boundary: str, *, part_bytes_max: int) -> list[Part]:
    """All parts, in order. Raises WireError unless the closing boundary stands where it must."""
    delimiter = b"--" + boundary.encode("ascii")
    if not body.startswith(delimiter):
        raise WireError("the answer does not begin with its boundary")
    at = len(delimiter)
    parts: list[Part] = []
    while not body.startswith(b"--", at):
        if len(parts) == PARTS_MAX:
            raise WireError(f"the answer has more than {PARTS_MAX} parts")
        if not body.startswith(b"\r\n", at):
            raise WireError("a boundary of the answer is followed by something else")
        headers, start = _headers(body, at + 2)
        size = _length(headers)
        end = start + size
        if size > part_bytes_max:
            raise WireError(f"a part says that it has {size} bytes")
        if not body.startswith(b"\r\n" + delimiter, end):
            raise WireError("a part is not as long as it says, or the answer was cut off")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        parts.append(Part(headers.get("rendition-name", ""), kind, body[start:end]))
        at = end + 2 + len(delimiter)
    return parts


def _headers(body: bytes, at: int) -> tuple[dict[str, str], int]:
    end = body.find(b"\r\n\r\n", at, at + HEADERS_MAX_BYTES)
    if end < 0:
        raise WireError("a part's headers do not end")
    lines = body[at:end].decode("latin-1").split("\r\n", HEADER_LINES_MAX)
    if len(lines) > HEADER_LINES_MAX:
        raise WireError(f"a part has more than {HEADER_LINES_MAX} headers")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise WireError("a part's header has no colon")
        headers[name.strip().lower()] = value.strip()
    return headers, end + 4


def _length(headers: dict[str, str]) -> int:
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdigit() and len(text) <= LENGTH_MAX_DIGITS):
        raise WireError("a part does not say how long it is")
    return int(text)
