"""Which media playlists a stream has. Pure.

A single audio track is muxed into each video rendition, which halves the requests, and is one by
itself for who wants no picture; several become renditions of their own in one audio group. Without
video, each audio track is one.
"""

import msgspec

from media.track.model import Kind, Track
from media.track.stream import Section


class Rendition(msgspec.Struct, frozen=True):
    """One media playlist: a leading track, alone or with audio muxed in."""

    name: str  # the leading track's name, used in URLs
    tracks: tuple[Track, ...]  # leading track first
    audio_group: bool = False  # audio for video renditions that carry none
    sound_only: bool = False  # audio that the video renditions carry, without a picture

    @property
    def lead(self) -> Track:
        return self.tracks[0]

    @property
    def init(self) -> int:
        """Number of the init segment; grows whenever any of the tracks changes."""
        return max(track.init for track in self.tracks)


def renditions_of(section: Section) -> tuple[Rendition, ...]:
    """Renditions of one section, video first."""
    video = [track for track in section.tracks if track.kind is Kind.VIDEO]
    audio = [track for track in section.tracks if track.kind is Kind.AUDIO]
    if not video:
        return tuple(Rendition(track.name, (track,)) for track in audio)
    if len(audio) <= 1:
        alone = tuple(Rendition(track.name, (track,), sound_only=True) for track in audio)
        return tuple(Rendition(track.name, (track, *audio)) for track in video) + alone
    pictures = tuple(Rendition(track.name, (track,)) for track in video)
    return pictures + tuple(Rendition(track.name, (track,), audio_group=True) for track in audio)


def rendition_of(section: Section, name: str) -> Rendition | None:
    """The rendition of that name in this section."""
    for rendition in renditions_of(section):
        if rendition.name == name:
            return rendition
    return None
