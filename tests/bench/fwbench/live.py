"""A live stream on a server: publish it, wait until it can be watched, find its playlists."""

import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fwbench import clip, playlist
from fwbench.bench import Bench
from fwbench.load.publish import PublishSpec
from fwbench.loads import Load
from fwbench.servers import Server, ServerError

STREAM = "bench"
_APPEAR_S = 20.0
_POLL_S = 0.01


@contextmanager
def published(bench: Bench, server: Server, names: list[str], group_s: int = 2) -> Iterator[Load]:
    """Publishers of the clip on `names`, sending in real time."""
    spec = PublishSpec(server.host, server.rtmp_port, names, bench.clip(group_s), clip.LENGTH_MS)
    with bench.load(spec, server.folder) as load:
        yield load


@dataclass(frozen=True, slots=True)
class Playlist:
    """A media playlist: its path and what it said when it was looked at."""

    path: str
    body: bytes

    def resolve(self, uri: bytes) -> str:
        return playlist.resolve(self.path.encode(), uri).decode()


def poll(server: Server, path: str) -> bytes | None:
    """The body, or None while the server answers with an error."""
    try:
        return server.get(path)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


def media_playlists(server: Server, segments: int = 1) -> list[Playlist]:
    """The first variant's and the separate audio's playlists, once the first lists `segments` segments.

    With no segments asked for, once it lists a part to start at. Raises ServerError when they do not appear.
    """
    top = f"/live/{STREAM}/index.m3u8"
    deadline = time.monotonic() + _APPEAR_S + 10 * segments
    while time.monotonic() < deadline:
        found = _look(server, top)
        if found and _enough(found[0].body, segments):
            return found
        time.sleep(_POLL_S)
    raise ServerError(f"no playable {top}: {server.program.log_tail()[-500:]}")


def _enough(body: bytes, segments: int) -> bool:
    return len(playlist.segments(body)) >= segments and playlist.first_independent(body) is not None


def _look(server: Server, top: str) -> list[Playlist]:
    body = poll(server, top)
    if body is None:
        return []
    paths = [playlist.resolve(top.encode(), uri).decode() for uri in playlist.renditions(body)]
    found = [Playlist(path, poll(server, path) or b"") for path in paths]
    return found if all(media.body for media in found) else []
