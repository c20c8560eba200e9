"""A source's pictures cut into closed segments, as transport streams for gateways. Pure.

A segment begins with an IDR picture, so nothing in it needs another segment, and is 1 to 4 s long
where the source's keyframes allow it. Its times start TIME_OFFSET_S after zero at the beginning of
a run: gateways shift segments that begin near zero (their muxer's avoid_negative_ts).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from media.bitstream import h264, hevc
from media.bitstream.inspect import inspect_video
from media.container.mpegts import LEAD_TICKS, TIMESCALE, TsMuxer
from media.errors import MediaError, WireError
from media.track.model import Codec, Packet, Track
from media.transcode.livepeer.order import Order

LEAST_S = 1.0  # shorter ones cost a gateway more in requests than in pictures
TARGET_S = 2.0
USUAL_MOST_S = 4.0  # not longer when a keyframe allows it
LONGEST_S = 10.0  # gateways stall on longer ones; viewers waited as long already
PICTURES_MAX = 2_400  # LONGEST_S at 240 a second
BYTES_MAX = 32 * 1024 * 1024  # LONGEST_S of 25 Mb/s
TIME_OFFSET_S = 10
RUN_MAX_S = 20 * 3600  # before the 33 bits of MPEG time (26 h) end a new run begins
STEP_MAX_S = 1  # pictures further apart tell nothing about how long the last one lasts
SIDE_MAX = 4096  # pixels, what gateways' encoders take


@dataclass(frozen=True, slots=True)
class Segment:
    """Closed groups of pictures. `unfit` says why no gateway can make renditions of it; "": one can."""

    order: Order
    number: int  # within the order's run
    packets: tuple[Packet, ...]  # in decoding order
    duration: int  # ticks of the packets' track
    base: int  # ticks that stand at TIME_OFFSET_S in the transport stream
    body: bytes = b""  # PAT, PMT and the pictures as a transport stream; empty when unfit
    unfit: str = ""

    @property
    def track(self) -> Track:
        return self.packets[0].track

    @property
    def duration_s(self) -> float:
        return self.duration / self.track.timescale

    def presentation(self) -> list[int]:
        """PTS of the pictures in the transport stream, 90 kHz, in presentation order."""
        scale = self.track.timescale
        shift = TIME_OFFSET_S * scale - self.base
        return sorted([(packet.pts + shift) * TIMESCALE // scale + LEAD_TICKS for packet in self.packets])


class Segmenter:
    """Cuts the pictures of one order. Give it the leading track's packets only, in decoding order."""

    def __init__(self, order: Order, *, target_s: float = TARGET_S) -> None:
        self._order = order
        self._target_s = min(max(target_s, LEAST_S), USUAL_MOST_S)
        self._number = 0
        self._base: int | None = None
        self._packets: list[Packet] = []
        self._bytes = 0
        self._group_at = 0  # ticks: where the newest group began
        self._overflown = ""

    def add(self, packet: Packet) -> Segment | None:
        """The segment that ends before this picture, when one does."""
        done = None
        if self._packets:
            if packet.keyframe and self._ends_before(packet):
                done = self._cut(packet.dts)
        elif not packet.keyframe:
            return None  # nothing can be decoded of it
        if packet.keyframe:
            self._group_at = packet.dts
        self._hold(packet)
        return done

    def flush(self) -> Segment | None:
        """What is left, at the end of a run."""
        return self._cut(None) if self._packets else None

    @property
    def run_is_old(self) -> bool:
        """Should another run begin, as times are about to wrap?"""
        if self._base is None or not self._packets:
            return False
        packet = self._packets[-1]
        return packet.dts - self._base > RUN_MAX_S * packet.track.timescale

    def _ends_before(self, packet: Packet) -> bool:
        first = self._packets[0]
        if packet.track is not first.track and not packet.track.describes_same(first.track):
            return True
        if self._overflown:
            return True
        scale = packet.track.timescale
        elapsed = (packet.dts - first.dts) / scale
        if elapsed < LEAST_S or not _is_closed(packet):
            return False
        group_s = (packet.dts - self._group_at) / scale
        return elapsed + group_s / 2 >= self._target_s or elapsed + group_s > USUAL_MOST_S

    def _hold(self, packet: Packet) -> None:
        """Keep what fits; a segment that grows too long keeps its first pictures and says so."""
        if self._base is None:
            self._base = packet.dts
        if self._packets:
            elapsed = packet.dts - self._packets[0].dts
            if elapsed > LONGEST_S * packet.track.timescale:
                self._overflown = f"no closed group of pictures ends within {LONGEST_S:.0f} s"
            elif len(self._packets) >= PICTURES_MAX or self._bytes + len(packet.data) > BYTES_MAX:
                self._overflown = "a segment has more pictures or bytes than a gateway takes"
        if not self._overflown:
            self._bytes += len(packet.data)
            self._packets.append(packet)

    def _cut(self, end: int | None) -> Segment:
        """The segment, which lasts until `end`, if that is not much later than its last picture."""
        assert self._base is not None
        packets = tuple(self._packets)
        last, most = packets[-1], STEP_MAX_S * packets[-1].track.timescale
        if end is None or not 0 < end - last.dts <= most:
            end = last.dts + min(max(1, last.duration), most)
        duration = end - packets[0].dts
        unfit = (
            self._overflown
            or unfit_track(packets[0].track, hevc=self._order.hevc)
            or _unfit_pictures(packets)
        )
        number, self._number = self._number, self._number + 1
        self._packets, self._bytes, self._overflown = [], 0, ""
        body = b""
        if not unfit:
            try:
                body = _transport_stream(packets, self._base)
            except MediaError as error:
                unfit = f"its pictures do not parse: {error}"
        return Segment(self._order, number, packets, duration, self._base, body, unfit)


def unfit_track(track: Track, *, hevc: bool = False) -> str:
    """Why gateways cannot decode this picture; "": they can. `hevc`: the operator's gateways take H.265."""
    if track.codec is not Codec.H264 and not (hevc and track.codec is Codec.HEVC):
        return f"gateways do not take {track.codec.upper()}"
    try:
        depth, chroma, profile = _samples_untrusted(track)
    except WireError as error:
        return f"its configuration does not parse: {error}"
    if depth != 8 or chroma != 1:
        return f"gateways take 4:2:0 pictures of 8 bits, not {profile}"
    if max(track.width, track.height) > SIDE_MAX or min(track.width, track.height) < 2:
        return f"gateways take pictures up to {SIDE_MAX} wide, not {track.width}x{track.height}"
    return ""


def place_of(presentation: Sequence[int], pts: int, most: int) -> int | None:
    """Index of the time nearest to `pts`, when it is at most `most` away."""
    after = bisect_left(presentation, pts)
    near = [at for at in (after - 1, after) if 0 <= at < len(presentation)]
    best = min(near, key=lambda at: abs(presentation[at] - pts))
    return best if abs(presentation[best] - pts) <= most else None


def _transport_stream(packets: Sequence[Packet], base: int) -> bytes:
    track = packets[0].track
    muxer = TsMuxer([track])
    shift = TIME_OFFSET_S * track.timescale - base
    replace = msgspec.structs.replace
    pieces = [muxer.tables()]
    pieces += [muxer.packet(replace(packet, dts=packet.dts + shift)) for packet in packets]
    return b"".join(pieces)


def _samples_untrusted(track: Track) -> tuple[int, int, str]:
    """Bit depth, chroma_format_idc and profile."""
    if track.codec is Codec.HEVC:
        found = hevc.parse_sps_untrusted(hevc.parse_hvcc_untrusted(track.config).sps[0])
        return found.bit_depth, found.chroma_format_idc, "another H.265 profile"
    sps = h264.parse_sps_untrusted(h264.parse_avcc_untrusted(track.config).sps[0])
    return sps.bit_depth, sps.chroma_format_idc, sps.profile


def _is_closed(packet: Packet) -> bool:
    try:
        return inspect_video(packet.track.codec, packet.data).idr
    except MediaError:
        return False


def _unfit_pictures(packets: Sequence[Packet]) -> str:
    if not _is_closed(packets[0]):
        return "its first picture is no IDR picture: it may need pictures before it"
    return ""
