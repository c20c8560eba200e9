"""What the connections of one HTTP server share. Pure."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from media.deliver.http.errors import BadRequest
from media.deliver.http.request import FieldSet, Head
from media.deliver.http.response import DateLine
from media.deliver.http.router import Router

if TYPE_CHECKING:
    from media.deliver.http.connection import HttpConnection

# Viewers of one stream ask with the same bytes, or the same but for the path: same player, same
# page. Such bytes are parsed once. Full of unique heads both tables hold 5 MB and are begun anew.
HEADS_MAX = 1024
FIELD_SETS_MAX = 256
REMEMBERED_MAX_BYTES = 2048

# A request line that needs no second opinion: RFC 3986 pchar, "/" and "?".
_REQUEST_LINE = re.compile(rb"GET (/[\w.~!$&'()*+,;=:@%/?-]{0,2000}) HTTP/1\.1\r\n", re.ASCII)


class Site:
    """Routes, parsed heads, the date, and whether the server is draining."""

    __slots__ = (
        "_field_sets",
        "_heads",
        "clock",
        "connections",
        "date",
        "draining",
        "on_empty",
        "on_refused",
        "refused",
        "router",
    )

    def __init__(self, router: Router, clock: Callable[[], float], unix_time: Callable[[], float]) -> None:
        """`clock` is the reactor's `now`; `unix_time` is for the Date field."""
        self.router = router
        self.clock = clock
        self.date = DateLine(unix_time)
        self.draining = False  # every answer closes its connection
        self.connections: dict[HttpConnection, None] = {}  # in the order they came
        self.on_empty: Callable[[], None] | None = None  # called when the last connection has gone
        self.refused: dict[int, int] = {}  # requests that no handler saw, by status
        # Told of each of them: the other side's address, what is wrong.
        self.on_refused: Callable[[str, BadRequest], None] = lambda peer, fault: None
        self._heads: dict[bytes, Head] = {}
        self._field_sets: dict[bytes, tuple[FieldSet, bool]] = {}  # by their bytes; with keep_alive

    def recognize(self, data: bytes) -> Head | None:
        """The head, when `data` is exactly one request of a kind that was parsed before."""
        head = self._heads.get(data)
        if head is not None:
            return head
        line = _REQUEST_LINE.match(data)
        known = self._field_sets.get(data[line.end() :]) if line is not None else None
        if line is None or known is None:
            return None
        try:
            head = Head("GET", line[1], "1.1", *known)
        except BadRequest:
            return None  # parsed again, and refused there
        head.route = self.router.resolve(head)
        self._remember_head(data, head)
        return head

    def remember(self, data: bytes, head: Head, body: bytes) -> None:
        """`data` is exactly one request, which llhttp took and said `head` and `body`."""
        if body or len(data) > REMEMBERED_MAX_BYTES or head.method != "GET" or b"upgrade" in head.fields:
            return
        self._remember_head(data, head)
        line = _REQUEST_LINE.match(data)
        if line is not None:
            if len(self._field_sets) >= FIELD_SETS_MAX:
                self._field_sets.clear()
            self._field_sets[data[line.end() :]] = FieldSet(head.fields), head.keep_alive

    def forget(self, connection: "HttpConnection") -> None:
        """A connection is gone."""
        del self.connections[connection]
        if not self.connections and self.on_empty is not None:
            self.on_empty()

    def _remember_head(self, data: bytes, head: Head) -> None:
        if len(self._heads) >= HEADS_MAX:
            self._heads.clear()
        self._heads[data] = head
