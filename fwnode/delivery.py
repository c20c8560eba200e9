"""What answers the public HTTP listeners, in the agent as in each of its workers. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from media.bitstream.duration import frame_duration
from media.container.feed import Feeds
from media.deliver.http.router import Router
from media.deliver.live import Attendance, Door, Live, PosterSource
from media.deliver.quality.beacon import Taker
from media.deliver.routes import Pages, Shown, has_hls_script, public_router
from media.net.store import MemoryFiles
from media.track.registry import CallAt, RegistrySettings, Streams
from media.track.stream import StreamSettings


class DeliverySettings(msgspec.Struct, frozen=True):
    """What delivery has to know of a node's settings."""

    node: str  # its name
    playlist_us: int  # length of media playlists
    held_us: int  # media kept for readers
    flush_s: float | None  # see media.container.feed.FeedSettings
    connections_max: int  # on each listener
    player_files: Mapping[str, bytes]


MAY_BE_ELSEWHERE: Mapping[str, Callable[[tuple[str, ...]], bool]] = {
    "watch": lambda segments: len(segments) == 2,
    "live": lambda segments: len(segments) == 3 and segments[2] == "index.m3u8",
}
"""Routes, and which of their paths a viewer may be sent on from."""


class Steering(Protocol):
    """Who sends viewers to the best node; fwnode.steering.answers.Answers in the agent."""

    def add_to(self, router: Router) -> None:
        """Add its own addresses, and look at requests of the others first."""


def public_routes(
    settings: DeliverySettings,
    streams: Streams,
    feeds: Feeds,
    posters: PosterSource,
    call_at: CallAt,
    *,
    shown: Iterable[Shown],
    ready: Callable[[], bool],
    audience: Attendance,
    steering: Steering,
    quality: Taker,
    door: Door | None = None,
) -> Router:
    """Every public address. `shown` is on the home page; for the others see Live and Pages."""
    live = Live(
        streams,
        feeds,
        posters,
        window_us=settings.playlist_us,
        put_file=MemoryFiles().put,
        call_at=call_at,
        audience=audience,
        door=door,
        quality=quality,
    )
    files = settings.player_files
    pages = Pages(shown, node=settings.node, hls_script=has_hls_script(files), ready=ready)
    router = public_router(live, pages, files)
    steering.add_to(router)
    return router


def copied_streams(settings: DeliverySettings, call_at: CallAt) -> Streams:
    """A registry for streams that another process marks."""
    held = StreamSettings(window_us=settings.held_us)
    return Streams(RegistrySettings(stream=held), call_at=call_at, measure=frame_duration)
