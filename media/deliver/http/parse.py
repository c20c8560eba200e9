"""Bytes of a connection to requests, by llhttp; every limit on them. Pure."""

from collections import deque
from collections.abc import Callable

import httptools

from media.deliver.http.errors import BadRequest
from media.deliver.http.request import Fields, FieldSet, Head
from media.deliver.http.router import Route

HEAD_MAX_BYTES = 16384  # what browsers with cookies send is below 4 KiB
FIELDS_MAX = 100
CHUNKED_OVERHEAD = 8  # wire bytes per body byte that chunked coding may take: one-byte chunks need 6
_ONLY_ONCE = (b"host", b"content-length", b"sec-websocket-key", b"authorization")


class RequestParser:
    """Requests of one connection in order. Feed it small pieces: it completes all that they hold."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_fed_bytes",
        "_fields",
        "_head",
        "_parser",
        "_resolve",
        "_target",
        "completed",
        "expects_continue",
        "fault",
        "partial",
    )

    def __init__(self, resolve: Callable[[Head], Route]) -> None:
        """`resolve` finds the route of a head, which says how much body it takes."""
        self.completed: deque[tuple[Head, bytes]] = deque()
        self.partial = False  # in the middle of a request
        self.expects_continue = False  # the client waits for 100 (RFC 9110 10.1.1); reset by the reader
        self._resolve = resolve
        self._parser = httptools.HttpRequestParser(self)
        # What is wrong with the bytes after the completed requests; nothing may be fed any more.
        self.fault: BadRequest | None = None
        self._fed_bytes = 0
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0

    @property
    def in_body(self) -> bool:
        """The head of the request that is coming is complete."""
        return self._head is not None

    def release(self) -> None:
        """Let go of llhttp's parser, which refers to this object; nothing may be fed any more."""
        del self._parser

    def feed(self, data: bytes) -> bytes:
        """Parse; returns what follows a request that asks for another protocol."""
        self._fed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self.fault = self.fault or BadRequest(400, f"not HTTP: {error}")
        if self.partial:
            self._check_length()
        return b""

    def _check_length(self) -> None:
        if self._head is None:
            if self._fed_bytes > HEAD_MAX_BYTES:
                self.fault = BadRequest(431, f"the head is longer than {HEAD_MAX_BYTES} bytes")
        elif self._fed_bytes > HEAD_MAX_BYTES + CHUNKED_OVERHEAD * self._head.route.body_max_bytes:
            self.fault = BadRequest(413, "the body is too long as it is coded")

    # What httptools calls.

    def on_message_begin(self) -> None:
        self.partial = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        try:
            self._complete_head()
        except BadRequest as error:
            self.fault = error
            raise  # makes llhttp stop

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._head is not None and self._body_bytes > self._head.route.body_max_bytes:
            self.fault = _too_long(self._head.route)
            raise self.fault
        self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._head is not None
        self.completed.append((self._head, b"".join(self._body)))
        self.partial = self.expects_continue = False
        self._fed_bytes = 0
        self._reset()

    def _complete_head(self) -> None:
        parser = self._parser
        fields = fold_fields(self._fields)
        head = Head(
            parser.get_method().decode("ascii"),
            self._target,
            parser.get_http_version(),
            FieldSet(fields),
            parser.should_keep_alive(),
        )
        route = head.route = self._resolve(head)
        length = fields.get(b"content-length", b"")
        if length and (len(length) > 15 or int(length) > route.body_max_bytes):
            raise _too_long(route)
        self.expects_continue = (
            head.version == "1.1" and fields.get(b"expect", b"").lower() == b"100-continue"
        )
        self._head = head


def fold_fields(pairs: list[tuple[bytes, bytes]]) -> Fields:
    """Fields by lower-case name, repeated ones joined (RFC 9110 5.3). Raises BadRequest."""
    if len(pairs) > FIELDS_MAX:
        raise BadRequest(431, f"more than {FIELDS_MAX} header fields")
    fields: Fields = {}
    for name, value in pairs:
        key = name.lower()
        if key in fields:
            if key in _ONLY_ONCE:
                raise BadRequest(400, f"more than one {key.decode('latin-1')} field")
            value = fields[key] + b", " + value
        fields[key] = value.rstrip()
    return fields


def _too_long(route: Route) -> BadRequest:
    return BadRequest(413, f"the body is longer than {route.body_max_bytes} bytes")
