"""Answers: made once, sent to any number of viewers. Pure."""

import gzip
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

import msgspec

from media.deliver.http.request import Head
from media.errors import StateError
from media.net.transport import Buffer, FileSlice

Body = bytes | tuple[Buffer, ...] | FileSlice
HeaderPairs = tuple[tuple[str, str], ...]

SMALL_BYTES = 65536  # up to here head and body are kept as one buffer: one plain send, no gather
COMPRESS_MIN_BYTES = 400  # below it the answer is one packet anyway
GZIP_LEVEL = 6
PREFLIGHT_S = 86400  # the longest that any browser keeps a preflight (Firefox)
IMMUTABLE = "public, max-age=31536000, immutable"  # RFC 8246, for names that never mean other bytes
NO_STORE = "no-store"
NO_CACHE = "no-cache"

# Players on any page may read answers, their length and their timing. A wildcard does not
# cover Authorization (Fetch, CORS-non-wildcard request-header), so every field is named.
CORS = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Expose-Headers: Accept-Ranges, Content-Length, Content-Range, Date, ETag, Link, "
    b"Location, Retry-After\r\n"
    b"Timing-Allow-Origin: *\r\n"
)
_ALLOWED_FIELDS = (
    "Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status, Content-Type, If-Match, "
    "If-None-Match, If-Range, Range"
)


class Response:
    """One answer. Immutable; keep it and send it again when the same is asked again.

    `body` is bytes, several buffers, or a file's part. `etag` is without quotes and names the
    bytes; with it, conditional requests get 304. `compress` offers gzip to clients that take
    it, made at the first such request; without it, a 200 offers byte ranges.
    """

    __slots__ = ("_gzip", "body", "compress", "etag", "fields", "length", "plain", "status")

    def __init__(
        self,
        status: int,
        body: Body = b"",
        *,
        content_type: str = "",
        cache_control: str = NO_STORE,
        etag: str = "",
        headers: HeaderPairs = (),
        compress: bool = False,
    ) -> None:
        """Raises StateError when a header would break the head apart."""
        self.status = status
        self.body = body
        self.length = body_length(body)
        self.etag = etag
        self.compress = compress and isinstance(body, bytes) and self.length >= COMPRESS_MIN_BYTES
        pairs = [("Content-Type", content_type)] if content_type else []
        pairs.append(("Cache-Control", cache_control))
        if self.compress:
            pairs.append(("Vary", "Accept-Encoding"))
        elif status == 200 and self.length:
            pairs.append(("Accept-Ranges", "bytes"))
        self.fields = encode_fields((*pairs, *headers)) + CORS
        self.plain = Variant(self, body, "")
        self._gzip: Variant | None = None

    def variant(self, gzip_accepted: bool) -> "Variant":
        """The coding to send."""
        if not (gzip_accepted and self.compress):
            return self.plain
        if self._gzip is None:
            assert isinstance(self.body, bytes)
            packed = gzip.compress(self.body, GZIP_LEVEL, mtime=0)
            self._gzip = Variant(self, packed, "gzip") if len(packed) < self.length else self.plain
        return self._gzip


class Variant:
    """A response in one content coding, ready but for the date."""

    __slots__ = ("_tail", "_wire", "body", "coding", "head", "length", "quoted_etag", "small")

    def __init__(self, response: Response, body: Body, coding: str) -> None:
        self.body = body
        self.coding = coding
        self.length = body_length(body)
        self.small = isinstance(body, bytes) and self.length <= SMALL_BYTES
        extra = b""
        self.quoted_etag = ""
        if response.etag:
            self.quoted_etag = f'"{response.etag}-{coding}"' if coding else f'"{response.etag}"'
            extra += encode_fields((("ETag", self.quoted_etag),))
        if coding:
            extra += encode_fields((("Content-Encoding", coding),))
        if response.status != 204:
            extra += b"Content-Length: %d\r\n" % self.length
        self.head = status_line(response.status) + response.fields + extra
        self._tail = b""
        self._wire = b""

    def wire(self, tail: bytes) -> bytes:
        """Head, tail and small body as one buffer; kept while the tail, which has the date, is the same."""
        if tail is not self._tail:
            assert isinstance(self.body, bytes)
            self._wire = b"".join((self.head, tail, self.body))
            self._tail = tail
        return self._wire


class Wire:
    """What goes to the transport; `length` is the body's."""

    __slots__ = ("body", "head", "length", "status")

    def __init__(self, status: int, head: bytes, body: Body) -> None:
        self.status = status
        self.head = head
        self.body = body
        self.length = body_length(body)


def select(response: Response, head: Head, tail: bytes) -> Wire:
    """What a response means to this request: whole, a range, without body, or not modified.

    RFC 9110 9.3.2 (HEAD), 13.1.2 (If-None-Match), 13.1.5 (If-Range), 14.2 (Range).
    """
    variant = response.variant(head.gzip and b"range" not in head.fields)
    if response.status == 200 and head.method in ("GET", "HEAD"):
        if response.etag and _matches(head.fields.get(b"if-none-match"), response.etag):
            return Wire(304, _not_modified(response, variant) + tail, b"")
        if head.method == "GET" and b"range" in head.fields and not response.compress:
            wire = _ranged(response, variant, head, tail)
            if wire is not None:
                return wire
    body = b"" if head.method == "HEAD" else variant.body
    return Wire(response.status, variant.head + tail, body)


def _matches(value: bytes | None, etag: str) -> bool:
    if value is None:
        return False
    ours = (f'"{etag}"', f'"{etag}-gzip"')
    tags = [tag.strip().removeprefix("W/") for tag in value.decode("latin-1").split(",")]
    return tags == ["*"] or any(tag in ours for tag in tags)


def _not_modified(response: Response, variant: Variant) -> bytes:
    return status_line(304) + response.fields + encode_fields((("ETag", variant.quoted_etag),))


def _ranged(response: Response, variant: Variant, head: Head, tail: bytes) -> Wire | None:
    """206 or 416; None when the range is to be ignored (several, malformed, or of other bytes)."""
    if_range = head.fields.get(b"if-range")
    if if_range is not None and if_range.decode("latin-1") != variant.quoted_etag:
        return None
    span = parse_range_untrusted(head.fields[b"range"], variant.length)
    if span is None:
        return None
    first, length = span
    fields = response.fields
    if variant.quoted_etag:
        fields += encode_fields((("ETag", variant.quoted_etag),))
    if not length:
        fields += b"Content-Range: bytes */%d\r\nContent-Length: 0\r\n" % variant.length
        return Wire(416, status_line(416) + fields + tail, b"")
    fields += b"Content-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n" % (
        first,
        first + length - 1,
        variant.length,
        length,
    )
    return Wire(206, status_line(206) + fields + tail, slice_body(variant.body, first, length))


def parse_range_untrusted(value: bytes, size: int) -> tuple[int, int] | None:
    """First byte and length of a single byte range (RFC 9110 14.1.2); length 0 when it cannot be met.

    None for anything else, which RFC 9110 14.2 lets a server ignore.
    """
    unit, _, spec = value.partition(b"=")
    first, dash, last = (part.strip() for part in spec.partition(b"-"))
    if unit.strip().lower() != b"bytes" or not dash or len(spec) > 40:
        return None
    if not (first or last) or not all(not part or part.isdigit() for part in (first, last)):
        return None
    if not first:
        length = min(int(last), size)
        return size - length, length
    start = int(first)
    end = int(last) if last else size - 1
    if end < start and last:
        return None
    return start, max(0, min(end, size - 1) - start + 1)


def slice_body(body: Body, first: int, length: int) -> Body:
    """Part of a body, without copying; the range must lie within it."""
    if isinstance(body, FileSlice):
        return FileSlice(body.descriptor, body.offset + first, length, body.owner)
    taken: list[Buffer] = []
    for buffer in body if isinstance(body, tuple) else (body,):
        if first < len(buffer) and length:
            part = memoryview(buffer)[first : first + length]
            taken.append(part)
            length -= len(part)
            first = 0
        else:
            first = max(0, first - len(buffer))
    return tuple(taken)


def body_length(body: Body) -> int:
    """Bytes in a body."""
    if isinstance(body, FileSlice):
        return body.length
    return sum(map(len, body)) if isinstance(body, tuple) else len(body)


def status_line(status: int) -> bytes:
    """RFC 9112 4."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode("ascii")


def encode_fields(pairs: HeaderPairs) -> bytes:
    """Header fields as bytes. Raises StateError for text that would begin another field."""
    text = "".join([f"{name}: {value}\r\n" for name, value in pairs])
    if text.count("\n") != len(pairs) or text.count("\r") != len(pairs) or not text.isascii():
        raise StateError("a header field has a line break or is not ASCII")
    return text.encode("ascii")


def error(status: int, code: str, message: str, *, headers: HeaderPairs = ()) -> Response:
    """An error of an API: JSON with a code for programs and a sentence for people."""
    body = msgspec.json.encode({"error": code, "message": message})
    return Response(status, body, content_type="application/json", headers=headers)


def plain_error(status: int, message: str, *, headers: HeaderPairs = ()) -> Response:
    """An error on a media path: a sentence."""
    return Response(
        status, message.encode() + b"\n", content_type="text/plain; charset=utf-8", headers=headers
    )


def redirect(location: str, *, status: int = 307, cache_control: str = NO_STORE) -> Response:
    """Elsewhere; the method and body stay the same with 307. Raises StateError for a broken location."""
    return Response(status, b"", cache_control=cache_control, headers=(("Location", location),))


def preflight(methods: str) -> Response:
    """What OPTIONS is answered: any page may use these methods (Fetch, CORS-preflight)."""
    return Response(
        204,
        headers=(
            ("Allow", methods),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", _ALLOWED_FIELDS),
            ("Access-Control-Max-Age", str(PREFLIGHT_S)),
        ),
    )


class DateLine:
    """The end of a response head: the date, made once a second, and what becomes of the connection."""

    __slots__ = ("_closing", "_kept", "_plain", "_unix_time", "_until")

    def __init__(self, unix_time: Callable[[], float]) -> None:
        self._unix_time = unix_time
        self._until = float("-inf")
        self._plain = self._kept = self._closing = b""

    def plain(self, now: float) -> bytes:
        """For HTTP/1.1 on a connection that stays open; the same object for a second."""
        if now >= self._until:
            self._renew(now)
        return self._plain

    def kept(self, now: float) -> bytes:
        """For HTTP/1.0 on a connection that stays open."""
        if now >= self._until:
            self._renew(now)
        return self._kept

    def closing(self, now: float) -> bytes:
        """For a connection that is closed after this."""
        if now >= self._until:
            self._renew(now)
        return self._closing

    def _renew(self, now: float) -> None:
        unix = self._unix_time()
        self._until = now + 1.0 - unix % 1.0
        line = b"Date: " + formatdate(int(unix), usegmt=True).encode("ascii") + b"\r\n"
        self._plain = line + b"\r\n"
        self._kept = line + b"Connection: keep-alive\r\n\r\n"
        self._closing = line + b"Connection: close\r\n\r\n"
