"""Sources and answers that tests make by hand."""

from collections.abc import Callable, Sequence
from random import Random

from media.bitstream import h264
from media.bitstream.annexb import join_sample
from media.container.mpegts import TsMuxer
from media.track.model import Codec, Packet, Track
from media.transcode.livepeer.multipart import Part
from media.transcode.livepeer.order import Order, Profile
from media.transcode.livepeer.segmenter import Segment, Segmenter

SPS = bytes.fromhex("6742c00dda05067e7840000003004000000f03c50aa8")  # 320x180
PPS = bytes.fromhex("68ce0fc8")
SOURCE = Track(
    1, Codec.H264, 90_000, h264.avcc_untrusted([SPS], [PPS]), width=640, height=360, declared_fps=30.0
)
MADE = Track(1, Codec.H264, 90_000, SOURCE.config, width=320, height=180)
PROFILE = Profile("180p", 180, 320, 180, 400_000)
STEP = 3000  # ticks of 30 pictures a second
_IDR, _P = b"\x65\xb8", b"\x41\xe0"  # first_mb 0, an I slice; first_mb 0, a P slice


def picture(
    number: int, *, key: bool, size: int = 60, cts: int = 0, start: int = 0, track: Track = SOURCE
) -> Packet:
    """Picture `number` of 30 a second."""
    data = join_sample([(_IDR if key else _P) + Random(number).randbytes(size).replace(b"\0", b"\1")])
    return Packet(track, start + number * STEP, cts, STEP, key, data, number // 30, number // 30, 0, 0)


def source(count: int, *, gop: int = 30, start: int = 0, track: Track = SOURCE) -> list[Packet]:
    return [picture(number, key=number % gop == 0, start=start, track=track) for number in range(count)]


def order(*profiles: Profile, budget_s: float = 6.0) -> Order:
    return Order("live-0badcafe", profiles or (PROFILE,), 640, 360, budget_s)


def cut(packets: Sequence[Packet], target_s: float = 2.0, order_: Order | None = None) -> list[Segment]:
    """All segments of these pictures."""
    segmenter = Segmenter(order_ or order(), target_s=target_s)
    done = [segmenter.add(packet) for packet in packets]
    return [segment for segment in [*done, segmenter.flush()] if segment is not None]


def made(
    segment: Segment, *, shift: int = 0, keep: Callable[[int], bool] = lambda _: True, idr: bool = True
) -> bytes:
    """A rendition's transport stream: other pictures of the other size at the segment's times."""
    muxer = TsMuxer([MADE])
    pieces = [muxer.tables()]
    for number, pts in enumerate(segment.presentation()):
        if keep(number):
            packet = picture(number, key=number == 0 and idr, size=30, track=MADE)
            at = pts - 22_500 + shift
            pieces.append(muxer.packet(Packet(MADE, at, 0, STEP, number == 0, packet.data, 0, 0, 0, 0)))
    return b"".join(pieces)


def framed(parts: Sequence[Part], boundary: str = "94eaf473f7957940e066") -> bytes:
    """As Go's mime/multipart writes them."""
    body = b""
    for index, part in enumerate(parts):
        body += (
            b"\r\n" * (index > 0)
            + (
                f'--{boundary}\r\nContent-Disposition: attachment; filename="{part.name}_7.ts"\r\n'
                f'Content-Length: {len(part.data)}\r\nContent-Type: {part.content_type}; name="x"\r\n'
                f"Rendition-Name: {part.name}\r\n\r\n"
            ).encode()
            + part.data
        )
    return body + f"\r\n--{boundary}--\r\n".encode()


CONTENT_TYPE = "multipart/mixed; boundary=94eaf473f7957940e066"
