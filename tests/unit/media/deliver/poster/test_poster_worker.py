"""The worker's pictures, and what it does with what is no picture."""

import io
import random
from fractions import Fraction
from functools import cache

import av
import pytest
from av.video.codeccontext import VideoCodecContext

from media.deliver.poster import worker
from media.deliver.poster.wire import (
    ANSWER_MAX_BYTES,
    HEADER_BYTES,
    JPEG_MAX_BYTES,
    Answer,
    Job,
    NoPicture,
    Picture,
    body_bytes_untrusted,
    decode_answer_untrusted,
    encode,
)
from media.deliver.poster.worker import make_poster, poster_size, serve
from media.errors import WireError
from media.track.model import Codec

GREY = 90
NOISE = random.Random(1)


@cache
def keyframe(
    width: int = 320, height: int = 180, luma: int = GREY, aspect: int = 1, noise: bool = False
) -> Job:
    """One H.264 picture: the left half of that luma, the right half black."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.sample_aspect_ratio = Fraction(aspect, 1)
    encoder.flags |= av.codec.context.Flags.global_header
    encoder.options = {"preset": "ultrafast", "x264-params": "annexb=0:qp=4:log=-1"}
    frame = av.VideoFrame(width, height, "yuv420p")
    for index, plane in enumerate(frame.planes):
        line = bytes([luma if not index else 128]) * (plane.line_size // 2)
        row = line + bytes([128 if index else 16]) * (plane.line_size - len(line))
        plane.update(NOISE.randbytes(plane.buffer_size) if noise else row * plane.height)
    frame.pts = 0
    data = b"".join(bytes(packet) for packet in encoder.encode(frame) + encoder.encode(None))
    return Job(Codec.H264, bytes(encoder.extradata or b""), data)


def shown(answer: Answer) -> av.VideoFrame:
    assert isinstance(answer, Picture), answer
    with av.open(io.BytesIO(answer.jpeg)) as image:
        return next(image.decode(video=0))


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        ((1920, 1080), 1, (640, 360)),
        ((320, 180), 1, (320, 180)),
        ((1080, 1920), 1, (640, 1138)),
        ((720, 576), Fraction(16, 11), (640, 352)),
        ((720, 480), Fraction(8, 9), (640, 480)),
        ((720, 576), Fraction(16, 15), (640, 480)),
        ((2, 8192), 1, (2, 1280)),
        ((8192, 2), 1, (640, 2)),
        ((640, 360), Fraction(1, 10_000), (2, 360)),
        ((101, 57), 1, (100, 56)),
    ],
)
def test_size(size: tuple[int, int], aspect: int | Fraction, expected: tuple[int, int]) -> None:
    assert poster_size(*size, Fraction(aspect)) == expected


def test_the_poster_shows_the_picture() -> None:
    frame = shown(make_poster(keyframe()))
    assert (frame.width, frame.height, frame.format.name) == (320, 180, "yuvj420p")
    left, right = bytes(frame.planes[0])[40], bytes(frame.planes[0])[280]
    assert abs(left - (GREY - 16) * 255 / 219) < 3, "JPEG has the full range"
    assert right < 3


def test_pixels_become_square() -> None:
    frame = shown(make_poster(keyframe(aspect=2)))
    assert (frame.width, frame.height) == (320, 90)


def test_noise_is_made_coarser_until_it_fits() -> None:
    answer = make_poster(keyframe(640, 640, noise=True))
    assert isinstance(answer, Picture) and JPEG_MAX_BYTES // 4 < len(answer.jpeg) <= JPEG_MAX_BYTES


def test_what_never_fits_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "JPEG_MAX_BYTES", 100)
    assert make_poster(keyframe()) == NoPicture("the JPEG is larger than 100 bytes")


def test_pictures_beyond_the_bound_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PIXELS_MAX", 100)
    assert isinstance(make_poster(keyframe()), NoPicture)


def test_sound_is_no_picture() -> None:
    assert isinstance(make_poster(Job(Codec.AAC, b"\x11\x90", b"\x21" * 100)), NoPicture)


@pytest.mark.parametrize("codec", [Codec.H264, Codec.HEVC, Codec.AV1, Codec.VP9])
def test_garbage_never_raises(codec: Codec) -> None:
    noise = random.Random(7)
    whole = keyframe()
    for size in (0, 1, 4, 100, 5000):
        for config in (b"", whole.config, noise.randbytes(30), b"\x81\x08\x0c\x00"):
            for data in (noise.randbytes(size), whole.data[:size], bytes(size)):
                make_poster(Job(codec, config, data))


def test_a_damaged_keyframe_gives_a_picture_of_its_size_or_none() -> None:
    whole = keyframe(noise=True)
    noise = random.Random(3)
    for _ in range(30):
        data = bytearray(whole.data)
        for _ in range(20):
            data[noise.randrange(len(data))] = noise.randrange(256)
        answer = make_poster(Job(whole.codec, whole.config, bytes(data)))
        if isinstance(answer, Picture):
            assert (shown(answer).width, shown(answer).height) == (320, 180)


def test_jobs_are_answered_until_there_are_no_more() -> None:
    jobs = [keyframe(), Job(Codec.H264, b"", b"nothing"), keyframe(luma=200)]
    out = io.BytesIO()
    serve(io.BytesIO(b"".join(map(encode, jobs))), out)
    out.seek(0)
    kinds = []
    while header := out.read(HEADER_BYTES):
        body = out.read(body_bytes_untrusted(header, ANSWER_MAX_BYTES))
        kinds.append(type(decode_answer_untrusted(body)))
    assert kinds == [Picture, NoPicture, Picture]


@pytest.mark.parametrize("cut", [2, 6, 100])
def test_jobs_that_end_in_the_middle_are_the_end(cut: int) -> None:
    with pytest.raises(WireError):
        serve(io.BytesIO(encode(keyframe())[:cut]), io.BytesIO())
