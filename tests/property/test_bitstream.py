"""Parsers of codec headers meet garbage, cut off and damaged input."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from media.bitstream import aac, ac3, annexb, av1, flac, h264, hevc, opus, vp9
from media.bitstream.access_unit import access_unit_untrusted
from media.bitstream.describe import describe
from media.bitstream.duration import frame_duration
from media.bitstream.inspect import inspect_video
from media.errors import WireError
from media.track.model import Codec, Kind, Track

# By real encoders: a configuration and the beginning of a frame for each codec.
CONFIGS = {
    Codec.H264: "01640028ffe1002d67640028acd94078044fdffe00060008d40808050000030001000003003262600"
    "0f424001e84e4c300f8b16cb001000568fbacb22cfdf8f800",
    Codec.HEVC: "0102200000009000000000003cf000fcfdfafa00000f03a00001001840010c01ffff022000000300900000"
    "03000003003c959809a10001002d42010102200000030090000003000003003ca00a080b9f6d96566924caf016a122012080"
    "000003008000000f04a2000100074401c172b46240",
    Codec.AV1: "81000c000a0b000000043cfeccdaf90040",
    Codec.VP9: "01000000000b820202020000",
    Codec.AAC: "138856e5a54880",
    Codec.OPUS: "0006013880bb0000000001040200040102030500",
    Codec.FLAC: "800000220400040000040700018b0bb800f0000177006fa85e77f531259b20ed675c2dd92098",
    Codec.AC3: "103de0",
    Codec.EAC3: "0600200c020200",
}
FRAMES = {
    Codec.H264: "000000020910000000080605118403b3f140000000056588843fff",
    Codec.HEVC: "000000034601500000000a2801af0858bda6da6063",
    Codec.AV1: "0a0b000000043cfeccdaf9004032040a108400",
    Codec.VP9: "824983420013f00b360638241c184a000b4050661fdfdff8",
    Codec.AAC: "dc004c61",
    Codec.OPUS: "fb03494727",
    Codec.FLAC: "fff97a08c28003ff4c000000",
    Codec.AC3: "0b77b50b1e40ebf8403eff99ff0841fc",
    Codec.EAC3: "0b77017f3487c0002084210838008c06",
}
PARSERS: dict[str, Callable[[bytes], object]] = {
    "avcc": h264.parse_avcc_untrusted,
    "avcc lengths": h264.with_four_byte_lengths_untrusted,
    "h264 sps": lambda data: h264.parse_sps_untrusted(b"\x67" + data),
    "h264 sets": lambda data: h264.avcc_untrusted([b"\x67" + data], [data]),
    "hvcc": hevc.parse_hvcc_untrusted,
    "hevc sps": lambda data: hevc.parse_sps_untrusted(b"\x42\x01" + data),
    "hevc sets": lambda data: hevc.hvcc_untrusted([data], [b"\x42\x01" + data], [data]),
    "obus": lambda data: list(av1.obus_untrusted(data)),
    "av1 sample": av1.sample_untrusted,
    "av1 sizes": lambda data: av1.with_sizes_untrusted([data]),
    "sequence header": av1.av1c_untrusted,
    "vp9 header": vp9.vpcc_from_keyframe_untrusted,
    "vp9 size": vp9.frame_size_untrusted,
    "aac": aac.parse_config_untrusted,
    "adts": aac.parse_adts_untrusted,
    "opus head": lambda data: opus.config_from_head_untrusted(b"OpusHead" + data),
    "opus packet": opus.packet_ticks_untrusted,
    "streaminfo": flac.config_from_streaminfo_untrusted,
    "flac frame": flac.block_size_untrusted,
    "syncframe": ac3.config_from_syncframe_untrusted,
    "eac3": lambda data: ac3.config_from_syncframe_untrusted(b"\x0b\x77" + data),
    "annexb": annexb.annexb_to_sample_untrusted,
    "sample": annexb.sample_to_annexb_untrusted,
    "h264 units": lambda data: access_unit_untrusted(Codec.H264, annexb.split_annexb_untrusted(data)),
    "hevc units": lambda data: access_unit_untrusted(Codec.HEVC, annexb.split_sample_untrusted(data)),
}
VIDEO = [codec for codec in Codec if codec.kind is Kind.VIDEO]

# A NAL unit neither is empty nor ends with a zero byte, and holds no start code.
UNITS = st.lists(
    st.binary(max_size=40).map(lambda payload: annexb.escape(b"\x65" + payload + b"\x80")), max_size=8
)


def damaged(whole: bytes) -> Iterable[bytes]:
    """Every truncation and every flipped bit."""
    yield from (whole[:length] for length in range(len(whole)))
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def only_wire_errors(parse: Callable[[bytes], object], data: bytes) -> None:
    try:
        parse(data)
    except WireError:
        pass


@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@given(data=st.binary(max_size=200))
@example(data=b"")
def test_garbage(parse: Callable[[bytes], object], data: bytes) -> None:
    only_wire_errors(parse, data)


@pytest.mark.parametrize("codec", Codec)
@given(data=st.binary(max_size=200))
def test_garbage_for_the_general_functions(codec: Codec, data: bytes) -> None:
    only_wire_errors(lambda data: describe(codec, data), data)
    only_wire_errors(lambda data: frame_duration(Track(1, codec, 90_000, data), data), data)
    if codec in VIDEO:
        only_wire_errors(lambda data: inspect_video(codec, data), data)


@pytest.mark.parametrize("codec", Codec)
def test_damaged_configurations(codec: Codec) -> None:
    whole = bytes.fromhex(CONFIGS[codec])
    describe(codec, whole)
    for data in damaged(whole):
        only_wire_errors(lambda data: describe(codec, data), data)


@pytest.mark.parametrize("codec", Codec)
def test_damaged_frames(codec: Codec) -> None:
    whole, track = bytes.fromhex(FRAMES[codec]), Track(1, codec, 48_000, bytes.fromhex(CONFIGS[codec]))
    if codec in VIDEO:
        inspect_video(codec, whole)
    else:
        assert frame_duration(track, whole)
    for data in damaged(whole):
        only_wire_errors(lambda data: frame_duration(track, data), data)
        if codec in VIDEO:
            only_wire_errors(lambda data: inspect_video(codec, data), data)


@given(units=UNITS)
def test_nal_units_survive_both_wrappings(units: list[bytes]) -> None:
    assert annexb.split_annexb_untrusted(annexb.join_annexb(units)) == units
    assert annexb.split_sample_untrusted(annexb.join_sample(units)) == units
    sample = annexb.join_sample(units)
    assert annexb.annexb_to_sample_untrusted(annexb.sample_to_annexb_untrusted(sample)) == sample


@given(payload=st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255]), max_size=40).map(bytes))
def test_emulation_prevention(payload: bytes) -> None:
    payload += b"\x80"  # every RBSP ends with a stop bit
    unit = annexb.escape(payload)
    assert annexb.unescape(unit) == payload
    assert not any(bytes((0, 0, code)) in unit for code in range(3))


@given(config=st.sampled_from(["1190", "1210", "0990", "1588", "11b0"]), payload=st.integers(0, 8_000))
def test_adts_says_what_was_put_in(config: str, payload: int) -> None:
    raw = bytes.fromhex(config)
    header = aac.adts_header(aac.adts_base(aac.parse_config_untrusted(raw)), payload)
    assert aac.parse_adts_untrusted(header) == aac.AdtsHeader(7, payload + 7, raw)
