"""Is what came back what was ordered, and where does each of its pictures belong? Pure.

A gateway's answer may be of another segment, the source itself, cut off or too small, and its times
are a muxer's. Each rendition's pictures are laid on those of the source: shown at the source's times
to the tick, decoded at the source's decoding times, so that renditions stay aligned whatever was
rounded on the way. The n-th picture shown takes the place of the n-th that the source decodes.
"""

from collections.abc import Sequence

import msgspec

from media.bitstream import h264
from media.bitstream.annexb import join_sample
from media.container.mpegts import TIMESCALE
from media.errors import RemoteError, WireError
from media.track.model import Codec
from media.transcode.livepeer.demux import CodedVideo, demux_video_untrusted
from media.transcode.livepeer.multipart import Part, boundary_untrusted, split_parts_untrusted
from media.transcode.livepeer.order import Profile
from media.transcode.livepeer.request import rendition_bytes_max
from media.transcode.livepeer.segmenter import Segment, place_of

SHIFT_MAX_TICKS = TIMESCALE // 2  # of a whole segment; below half of the shortest, so no neighbour fits
DURATION_SLACK = 0.1  # of the segment's duration
PICTURES_SLACK = 0.1  # of those that were ordered, and at least one
SIZE_SLACK_PX = 4  # encoders want even sides, transcoders round the aspect ratio
SIDE_MIN_LONG, SIDE_MIN_SHORT = 146, 50  # a transcoder makes no smaller ones (lpms ffmpeg.go)
_WRAP = 1 << 33


class Rejected(RemoteError):
    """An answer is not what was ordered; `kind` is one word for counting."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Picture(msgspec.Struct, frozen=True, gc=False):
    """One picture of a rendition at its place."""

    place: int  # index in Segment.packets, whose decoding time and marks it gets
    pts: int  # ticks of the source's track
    keyframe: bool
    data: bytes  # as Packet.data


class Rendition(msgspec.Struct, frozen=True):
    """One rendition of a segment, its pictures in decoding order; places grow strictly."""

    profile: Profile
    config: bytes  # avcC
    width: int
    height: int
    pictures: tuple[Picture, ...]


def examine_untrusted(segment: Segment, content_type: str, body: bytes) -> tuple[Rendition, ...]:
    """The renditions of an answer with status 200, in the order's order. Raises Rejected only."""
    profiles = segment.order.profiles
    try:
        most = max(rendition_bytes_max(profile, segment.duration_s) for profile in profiles)
        if not body:
            raise Rejected("empty", "the answer is empty")
        parts = split_parts_untrusted(body, boundary_untrusted(content_type), part_bytes_max=most)
    except WireError as error:
        raise Rejected("framing", str(error)) from None
    _check_names(parts, profiles)
    presentation = segment.presentation()
    return tuple(
        [
            _rendition(segment, presentation, profile, part)
            for profile, part in zip(profiles, parts, strict=True)
        ]
    )


def with_sets_in_band(rendition: Rendition) -> Rendition:
    """The same with its parameter sets before each keyframe, for tracks that were opened with others."""
    avcc = h264.parse_avcc_untrusted(rendition.config)
    sets = join_sample([*avcc.sps, *avcc.pps])
    pictures = [
        msgspec.structs.replace(picture, data=sets + picture.data) if picture.keyframe else picture
        for picture in rendition.pictures
    ]
    return msgspec.structs.replace(rendition, pictures=tuple(pictures))


def expected_sizes(profile: Profile, width: int, height: int) -> list[tuple[int, int]]:
    """Sizes that a gateway may make of that source: the one ordered, and the one by its own rule.

    It lays the longer side that was ordered on the source's longer side and keeps the aspect ratio.
    """
    long, short = max(width, height), min(width, height)
    made_long = max(profile.width, profile.height, SIDE_MIN_LONG)
    made_short = round(made_long * short / long)
    if made_short < SIDE_MIN_SHORT:
        made_short, made_long = SIDE_MIN_SHORT, round(SIDE_MIN_SHORT * long / short)
    own = (made_long, made_short) if width >= height else (made_short, made_long)
    return [(profile.width, profile.height), own]


def _check_names(parts: Sequence[Part], profiles: Sequence[Profile]) -> None:
    wanted = [profile.name for profile in profiles]
    came = [part.name for part in parts]
    if any([part.content_type == "application/vnd+livepeer.uri" for part in parts]):
        raise Rejected("elsewhere", "the gateway answers with addresses instead of renditions")
    if len(came) < len(wanted):
        raise Rejected("missing", f"{len(came)} of {len(wanted)} renditions came")
    if came != wanted:
        raise Rejected("names", f"renditions came that were not ordered so: {came!r:.100}")
    if any([part.content_type != "video/mp2t" for part in parts]):
        raise Rejected("type", "a rendition is no transport stream")


def _rendition(segment: Segment, presentation: Sequence[int], profile: Profile, part: Part) -> Rendition:
    if part.data == segment.body:
        raise Rejected("unchanged", f"{profile.name} is the source, unchanged")
    if len(part.data) > rendition_bytes_max(profile, segment.duration_s):
        raise Rejected("bytes", f"{profile.name} has {len(part.data)} bytes")
    try:
        coded = demux_video_untrusted(part.data)
        if coded.codec is not Codec.H264:
            raise Rejected("codec", f"{profile.name} is {coded.codec.upper()}")
        sps = h264.parse_sps_untrusted(h264.parse_avcc_untrusted(coded.config).sps[0])
    except WireError as error:
        raise Rejected("damaged", f"{profile.name}: {error}") from None
    if (sps.bit_depth, sps.chroma_format_idc) != (8, 1):
        raise Rejected("codec", f"{profile.name} is {sps.profile}")
    _check_size(segment, profile, sps.width, sps.height)
    if not coded.pictures[0].idr:
        raise Rejected("keyframe", f"{profile.name} does not begin with a keyframe")
    pictures = _placed(segment, presentation, profile, coded)
    return Rendition(profile, coded.config, sps.width, sps.height, pictures)


def _check_size(segment: Segment, profile: Profile, width: int, height: int) -> None:
    sizes = expected_sizes(profile, segment.order.width, segment.order.height)
    near = [
        abs(width - wide) <= SIZE_SLACK_PX and abs(height - high) <= SIZE_SLACK_PX for wide, high in sizes
    ]
    if not any(near):
        raise Rejected("size", f"{profile.name} is {width}x{height}")


def _placed(
    segment: Segment, presentation: Sequence[int], profile: Profile, coded: CodedVideo
) -> tuple[Picture, ...]:
    """The pictures at their places, after a look at their number and times."""
    origin = presentation[0]
    times = [(picture.pts - origin + _WRAP // 2) % _WRAP - _WRAP // 2 for picture in coded.pictures]
    shift = min(times)
    duration = segment.duration_s * TIMESCALE
    if abs(shift) > min(SHIFT_MAX_TICKS, duration / 2):
        raise Rejected("times", f"{profile.name} is {shift / TIMESCALE:.2f} s off: of another segment")
    step = _check_extent(profile, presentation, duration, sorted(times))
    shown = sorted(segment.packets, key=lambda packet: packet.pts)
    ranks = []
    for time in times:
        rank = place_of(presentation, origin + time - shift, step)
        if rank is None:
            raise Rejected("times", f"{profile.name} shows a picture when the source has none")
        ranks.append(rank)
    if len(set(ranks)) != len(ranks):
        raise Rejected("times", f"{profile.name} shows two pictures where the source has one")
    placed = []
    for place, rank, picture in zip(sorted(ranks), ranks, coded.pictures, strict=True):
        pts = shown[rank].pts
        if pts < segment.packets[place].dts:
            raise Rejected("order", f"{profile.name} decodes pictures later than the source shows them")
        placed.append(Picture(place, pts, picture.idr, picture.data))
    return tuple(placed)


def _check_extent(
    profile: Profile, presentation: Sequence[int], duration: float, times: Sequence[int]
) -> int:
    """How far a picture may be from the source's, after a look at their number and extent."""
    step = duration / len(presentation)  # ticks between pictures of the source
    ordered = float(len(presentation))
    if profile.fps_num:
        ordered = min(ordered, duration / TIMESCALE * profile.fps_num / profile.fps_den)
    slack = max(1.5, PICTURES_SLACK * ordered)
    if abs(len(times) - ordered) > slack:
        raise Rejected("pictures", f"{profile.name} has {len(times)} pictures instead of {ordered:.0f}")
    rendition_step = duration / ordered
    extent, wanted = times[-1] - times[0], presentation[-1] - presentation[0]
    if abs(extent - wanted) > max(1.5 * rendition_step, DURATION_SLACK * duration):
        raise Rejected("duration", f"{profile.name} lasts {extent / TIMESCALE:.2f} s")
    return round(rendition_step / 2 if not profile.fps_num else max(step, rendition_step / 2))
