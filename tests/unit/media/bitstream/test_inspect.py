"""Kinds of frames, and sorting NAL units into samples and parameter sets."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from media.bitstream import h264, hevc
from media.bitstream.access_unit import MAX_SETS_OF_A_KIND, ParameterSets, access_unit_untrusted
from media.bitstream.annexb import join_sample
from media.bitstream.inspect import MAX_INSPECTED_UNITS, FrameFacts, inspect_video
from media.errors import WireError
from media.track.model import Codec

Fields = Callable[[str], bytes]
KEY = FrameFacts(True, True, False, False)
DELTA = FrameFacts(False, False, False, False)


def h264_slice(fields: Fields, kind: int, slice_type: int, first: int = 0) -> bytes:
    return bytes((0x60 | kind,)) + fields(f"ue={first} ue={slice_type} ue=0")


def test_h264_idr_and_delta(fields: Fields) -> None:
    idr = h264_slice(fields, 5, 7)
    assert inspect_video(Codec.H264, join_sample([b"\x09\xf0", b"\x06\x05\x01\0\x80", idr])) == KEY
    assert inspect_video(Codec.H264, join_sample([h264_slice(fields, 1, 5)])) == DELTA


@pytest.mark.parametrize("slice_type", [1, 6])
def test_h264_b_slices(slice_type: int, fields: Fields) -> None:
    units = [h264_slice(fields, 1, 0), h264_slice(fields, 1, slice_type, first=3_600)]
    assert inspect_video(Codec.H264, join_sample(units)) == FrameFacts(False, False, False, True)


def test_h264_recovery_point_opens_a_group(fields: Fields) -> None:
    # A buffering period of 300 bytes would hide it; one of 2 bytes does not.
    sei = b"\x06\x00\x02ab\x06\x01\xc4\x80"
    found = inspect_video(Codec.H264, join_sample([sei, h264_slice(fields, 1, 7)]))
    assert found == FrameFacts(True, False, True, False)
    long = b"\x06\xff\x01\xff\x2d" + b"x" * 300 + b"\x06\x01\xc4\x80"
    assert not inspect_video(Codec.H264, join_sample([long, h264_slice(fields, 1, 7)])).keyframe


def test_only_the_first_units_are_looked_at(fields: Fields) -> None:
    units = [h264_slice(fields, 1, 0)] * MAX_INSPECTED_UNITS + [h264_slice(fields, 1, 1)]
    assert inspect_video(Codec.H264, join_sample(units)) == DELTA


@pytest.mark.parametrize(
    ("kind", "text", "facts"),
    [
        (19, "u1=1 u1=0 ue=0 ue=2", KEY),
        (20, "u1=1 u1=0 ue=0 ue=2", KEY),
        (21, "u1=1 u1=0 ue=0 ue=2", FrameFacts(True, False, True, False)),
        (16, "u1=1 u1=0 ue=0 ue=2", FrameFacts(True, False, True, False)),
        (1, "u1=1 ue=0 ue=1", DELTA),
        (1, "u1=1 ue=0 ue=0", FrameFacts(False, False, False, True)),
        (1, "u1=0 u9=0", DELTA),  # a later slice segment
        (9, "u1=1 ue=0 ue=1", FrameFacts(False, False, False, True)),  # RASL
    ],
)
def test_hevc(kind: int, text: str, facts: FrameFacts, fields: Fields) -> None:
    units = [b"\x46\x01\x50", b"\x4e\x01\x05", bytes((kind << 1, 1)) + fields(text)]
    assert inspect_video(Codec.HEVC, join_sample(units)) == facts


def test_hevc_slice_too_short() -> None:
    with pytest.raises(WireError):
        inspect_video(Codec.HEVC, join_sample([b"\x02\x01"]))


def test_av1(real: SimpleNamespace) -> None:
    assert inspect_video(Codec.AV1, b"\x12\0\x0a\x01\0" + b"\x32\x01\x10") == KEY
    assert inspect_video(Codec.AV1, b"\x32\x01\x00") == FrameFacts(True, False, True, False)
    assert inspect_video(Codec.AV1, b"\x32\x01\x30") == DELTA
    assert inspect_video(Codec.AV1, b"\x1a\x01\x80") == DELTA  # shows an earlier frame
    assert inspect_video(Codec.AV1, b"\x12\0") == DELTA
    assert inspect_video(Codec.AV1, b"\x7a\x00" * 99) == DELTA
    with pytest.raises(WireError):
        inspect_video(Codec.AV1, b"\x32\x00")


def test_vp9(real: SimpleNamespace) -> None:
    assert inspect_video(Codec.VP9, real.vp9_keyframe) == KEY
    assert inspect_video(Codec.VP9, b"\x86\0") == DELTA


def test_h264_access_unit(fields: Fields, real: SimpleNamespace) -> None:
    avcc = h264.parse_avcc_untrusted(real.avcc_high)
    idr = h264_slice(fields, 5, 7)
    unit = access_unit_untrusted(Codec.H264, [b"\x09\xf0", *avcc.sps, *avcc.sps, *avcc.pps, idr, b"\x0c\xff"])
    assert unit.sample == join_sample([idr])
    assert unit.facts == KEY
    assert unit.sets.complete
    assert unit.sets.config_untrusted() == real.avcc_high


def test_hevc_access_unit(fields: Fields, real: SimpleNamespace) -> None:
    hvcc = hevc.parse_hvcc_untrusted(real.hvcc)
    idr = b"\x26\x01" + fields("u1=1 u1=0 ue=0 ue=2")
    unit = access_unit_untrusted(Codec.HEVC, [*hvcc.vps, *hvcc.sps, *hvcc.pps, b"\x46\x01\x50", idr])
    assert unit.sample == join_sample([idr])
    assert hevc.parse_hvcc_untrusted(unit.sets.config_untrusted()) == hvcc


def test_later_sets_replace_earlier_ones() -> None:
    old = ParameterSets(Codec.H264, sps=(b"\x67a",), pps=(b"\x68a",))
    new = old.updated(ParameterSets(Codec.H264, pps=(b"\x68b",)))
    assert (new.sps, new.pps, new.complete) == ((b"\x67a",), (b"\x68b",), True)
    assert not ParameterSets(Codec.HEVC, sps=(b"x",), pps=(b"y",)).complete
    with pytest.raises(WireError):
        ParameterSets(Codec.HEVC).config_untrusted()


def test_number_of_sets_is_bounded() -> None:
    units = [b"\x68" + bytes((number,)) for number in range(1, MAX_SETS_OF_A_KIND + 2)]
    with pytest.raises(WireError, match="more than"):
        access_unit_untrusted(Codec.H264, units)
