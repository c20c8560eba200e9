"""A ladder's tracks, from what a worker opened. Pure."""

from collections.abc import Sequence

import msgspec

from media.bitstream.describe import describe
from media.errors import WireError
from media.track.model import Codec, Track
from media.track.stream import Section
from media.transcode.ladder import PlannedRung
from media.transcode.wire import OpenedRung


def opened_tracks(
    sides: Sequence[int], opened: Sequence[OpenedRung], planned: Sequence[PlannedRung], timescale: int
) -> tuple[Track, ...]:
    """The tracks by id, which is their short side; none when the worker's word is worth nothing."""
    rungs = {rung.side: rung for rung in planned}
    if len(opened) != len(sides) or not rungs.keys() >= set(sides):
        return ()
    tracks = []
    for side, made in zip(sides, opened, strict=True):
        try:
            describe(Codec.H264, made.config)
        except WireError:
            return ()
        tracks.append(
            Track(
                side, Codec.H264, timescale, made.config, width=made.width, height=made.height,
                declared_bps=rungs[side].bps, declared_fps=made.fps,
            )
        )  # fmt: skip
    return tuple(sorted(tracks, key=lambda track: track.id))


def same_tracks(made: Sequence[Track], before: Sequence[Track]) -> bool:
    """Is each of `made` described as before, where some may be missing?"""
    return all([any([track.describes_same(each) for each in before]) for track in made])


def numbered(made: Sequence[Track], before: Sequence[Track], section: Section) -> tuple[Track, ...]:
    """With an init number that no other bytes had; the one of `before` when nothing changed."""
    if len(made) == len(before) and same_tracks(made, before):
        return tuple(before)
    init = max([track.init for track in section.tracks] + [track.init + 1 for track in before])
    return tuple([msgspec.structs.replace(track, init=init) for track in made])
