"""A request as handlers see it. Pure.

`Head` is everything that the bytes of a request's head say and nothing else, so one Head serves
every request with the same bytes, of any viewer.
"""

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from media.deliver.http.errors import BadRequest

if TYPE_CHECKING:
    from media.deliver.http.router import Route

TARGET_MAX_BYTES = 4096  # a token and the LL-HLS directives take a quarter of it

# Common Media Client Data (CTA-5004): what a player says of itself, in these fields or in the query.
CMCD_FIELDS = (b"cmcd-object", b"cmcd-request", b"cmcd-session", b"cmcd-status")
CMCD_QUERY = "CMCD"

Fields = dict[bytes, bytes]  # lower-case name -> value; repeated fields joined by ", "


class FieldSet:
    """The header fields of a request. Treat as immutable: viewers with the same player share it."""

    __slots__ = ("by_name", "cmcd", "gzip", "plain")

    def __init__(self, by_name: Fields) -> None:
        self.by_name = by_name
        self.gzip = accepts_gzip(by_name.get(b"accept-encoding", b""))
        self.plain = b"if-none-match" not in by_name and b"range" not in by_name
        self.cmcd = any(name in by_name for name in CMCD_FIELDS)


class Head:
    """A parsed request head. Treat as immutable: it is shared."""

    __slots__ = (
        "_query",
        "cmcd",
        "fields",
        "gzip",
        "keep_alive",
        "method",
        "path",
        "plain",
        "query_text",
        "route",
        "segments",
        "target",
        "version",
    )

    route: "Route"  # set by the router

    def __init__(
        self, method: str, target: bytes, version: str, field_set: FieldSet, keep_alive: bool
    ) -> None:
        """Raises BadRequest for a target that is not a path (RFC 9112 3.2) or a missing Host field."""
        self.fields = field_set.by_name
        if version == "1.1" and b"host" not in self.fields:
            raise BadRequest(400, "a request needs one Host field")
        self.method = method
        self.target = target
        self.version = version
        self.keep_alive = keep_alive
        self.path, self.query_text = split_target_untrusted(method, target)
        self.segments = tuple(self.path[1:].split("/"))
        self.gzip = field_set.gzip
        self.cmcd = field_set.cmcd or CMCD_QUERY in self.query_text  # known before anybody looks
        # Answered by the whole body on a connection that stays open: the common case by far.
        self.plain = field_set.plain and method == "GET" and keep_alive and version == "1.1"
        self._query: dict[str, str] | None = None

    @property
    def query(self) -> dict[str, str]:
        """Decoded query fields; the first of a name counts, undecodable bytes become U+FFFD."""
        if self._query is None:
            pairs = parse_qsl(self.query_text, keep_blank_values=True, errors="replace")
            self._query = dict(reversed(pairs))
        return self._query


class Request:
    """One request: its head, its body and who sent it."""

    __slots__ = ("body", "head", "now", "peer_host", "peer_port", "secure")

    def __init__(
        self, head: Head, body: bytes, now: float, peer_host: str, peer_port: int, secure: bool
    ) -> None:
        self.head = head
        self.body = body
        self.now = now  # monotonic seconds when it was complete
        self.peer_host = peer_host
        self.peer_port = peer_port
        self.secure = secure

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def target(self) -> bytes:
        """As it came, with the query; at most TARGET_MAX_BYTES."""
        return self.head.target

    @property
    def path(self) -> str:
        """Percent-decoded, begins with "/"; has no "." or ".." segment and no control characters."""
        return self.head.path

    @property
    def segments(self) -> tuple[str, ...]:
        """The path split at "/", without the empty one before the first."""
        return self.head.segments

    @property
    def query_text(self) -> str:
        """The query as it came, without "?"."""
        return self.head.query_text

    def query(self, name: str) -> str | None:
        """A query field's decoded value."""
        return self.head.query.get(name)

    def header(self, name: bytes) -> str:
        """A header field's value by its lower-case name; empty when it is not there."""
        return self.head.fields.get(name, b"").decode("latin-1")

    def bearer(self) -> str:
        """The token of the request: `?token=` or `Authorization: Bearer` (RFC 6750 2.1); may be empty."""
        token = self.head.query.get("token")
        if token is not None:
            return token
        scheme, _, value = self.header(b"authorization").partition(" ")
        return value.strip() if scheme.lower() == "bearer" else ""


def split_target_untrusted(method: str, target: bytes) -> tuple[str, str]:
    """Decoded path and raw query of a request target. Raises BadRequest.

    Nothing here names a file, yet a path that could climb is refused: handlers and caches in
    front of this server must not have to think of it.
    """
    if len(target) > TARGET_MAX_BYTES:
        raise BadRequest(414, f"the target is longer than {TARGET_MAX_BYTES} bytes")
    if target == b"*" and method == "OPTIONS":
        return "/", ""
    if not target.startswith(b"/"):
        target = _origin_form(target)
    raw_path, _, raw_query = target.partition(b"?")
    if b"%" in raw_path:
        if b"%2f" in raw_path.lower() or b"%5c" in raw_path.lower():
            raise BadRequest(400, "the path has an encoded slash")
        raw_path = unquote_to_bytes(raw_path)
    try:
        path, query = raw_path.decode("utf-8"), raw_query.decode("ascii")
    except UnicodeDecodeError as error:
        raise BadRequest(400, "the target is not text") from error
    if not path.isprintable() or "#" in query or "\\" in path:
        raise BadRequest(400, "the target has characters that do not belong there")
    if "/." in path and any(segment in (".", "..") for segment in path.split("/")):
        raise BadRequest(400, "the path has a relative segment")
    return path, query


def _origin_form(target: bytes) -> bytes:
    """Path and query of an absolute target (RFC 9112 3.2.2)."""
    scheme, colon, rest = target.partition(b"://")
    if not colon or scheme.lower() not in (b"http", b"https"):
        raise BadRequest(400, "the target is not a path")
    for index, byte in enumerate(rest):
        if byte in b"/?":
            return rest[index:] if byte == 0x2F else b"/" + rest[index:]
    return b"/"


def accepts_gzip(value: bytes) -> bool:
    """Does an Accept-Encoding value allow gzip (RFC 9110 12.5.3)? Only q=0 forbids what is named."""
    for item in value.lower().split(b","):
        name, _, weight = item.partition(b";")
        if name.strip() in (b"gzip", b"x-gzip", b"*"):
            quality = weight.strip().removeprefix(b"q=").strip()
            return not quality or quality.strip(b"0.") != b""
    return False
