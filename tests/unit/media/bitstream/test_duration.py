"""How long audio frames sound."""

from types import SimpleNamespace

import pytest

from media.bitstream import ac3, flac, opus
from media.bitstream.duration import frame_duration
from media.errors import WireError
from media.track.model import Codec, Track


@pytest.mark.parametrize(
    ("config", "timescale", "ticks"),
    [
        ("1190", 48_000, 1_024),
        ("1194", 48_000, 960),
        ("1210", 44_100, 1_024),
        ("1210", 90_000, 2_090),
        ("2b920800", 44_100, 2_048),  # SBR doubles the rate
        ("2b920800", 22_050, 1_024),
    ],
)
def test_aac(config: str, timescale: int, ticks: int) -> None:
    assert frame_duration(Track(1, Codec.AAC, timescale, bytes.fromhex(config)), b"") == ticks


def test_the_others(real: SimpleNamespace) -> None:
    def ticks(codec: Codec, timescale: int, config: bytes, data: bytes) -> int | None:
        return frame_duration(Track(1, codec, timescale, config), data)

    assert ticks(Codec.OPUS, 48_000, opus.default_config(2), b"\xf8") == 960
    assert ticks(Codec.OPUS, 1_000, opus.default_config(2), b"\xf8") == 20
    info = flac.config_from_streaminfo_untrusted(real.streaminfo)
    assert ticks(Codec.FLAC, 48_000, info, real.flac_frame) == 1_024
    assert (
        ticks(Codec.AC3, 48_000, ac3.config_from_syncframe_untrusted(real.ac3_frame), real.ac3_frame) == 1_536
    )
    assert ticks(Codec.EAC3, 90_000, b"", real.eac3_frame) == 2_880


def test_video_does_not_say(real: SimpleNamespace) -> None:
    assert frame_duration(Track(1, Codec.H264, 90_000, real.avcc_high), b"\0\0\0\1\x65") is None


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec.kind == "audio"])
def test_damaged_frames(codec: Codec) -> None:
    with pytest.raises(WireError):
        frame_duration(Track(1, codec, 48_000, b""), b"")
