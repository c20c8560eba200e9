"""What the connections of one HTTP server share. Pure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from media.deliver.http.request import Head
from media.deliver.http.response import DateLine
from media.deliver.http.router import Router

if TYPE_CHECKING:
    from media.deliver.http.connection import HttpConnection

# Viewers of one stream ask with the same bytes: same player, same path. Such a head is parsed
# once. Full of unique heads it holds 4 MB and is begun anew.
HEADS_MAX = 1024
CACHED_HEAD_MAX_BYTES = 2048


class Site:
    """Routes, parsed heads, the date, and whether the server is draining."""

    __slots__ = ("clock", "connections", "date", "draining", "heads", "on_empty", "refused", "router")

    def __init__(self, router: Router, clock: Callable[[], float], unix_time: Callable[[], float]) -> None:
        """`clock` is the reactor's `now`; `unix_time` is for the Date field."""
        self.router = router
        self.clock = clock
        self.date = DateLine(unix_time)
        self.draining = False  # every answer closes its connection
        self.heads: dict[bytes, Head] = {}
        self.connections: dict[HttpConnection, None] = {}  # in the order they came
        self.on_empty: Callable[[], None] | None = None  # called when the last connection has gone
        self.refused: dict[int, int] = {}  # requests that no handler saw, by status

    def remember(self, data: bytes, head: Head, body: bytes) -> None:
        """`data` is exactly one request, which said `head` and `body`."""
        if body or len(data) > CACHED_HEAD_MAX_BYTES or head.method != "GET" or b"upgrade" in head.fields:
            return
        if len(self.heads) >= HEADS_MAX:
            self.heads.clear()
        self.heads[data] = head

    def forget(self, connection: "HttpConnection") -> None:
        """A connection is gone."""
        del self.connections[connection]
        if not self.connections and self.on_empty is not None:
            self.on_empty()
