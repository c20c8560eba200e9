"""AV1: OBUs, the sequence header and the av1C configuration. Pure.

AV1 Bitstream & Decoding Process 4.10.5, 5.3, 5.5; AV1 Codec ISO Media File Format Binding 2.3, 2.4.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from media.bitstream.bits import BitReader
from media.bitstream.picture import UNSPECIFIED, Colour, check_size, frame_rate
from media.errors import WireError

OBU_SEQUENCE_HEADER = 1
OBU_TEMPORAL_DELIMITER = 2
OBU_FRAME_HEADER = 3
OBU_FRAME = 6
OBU_TILE_LIST = 8
OBU_PADDING = 15

# A temporal unit of 64 tile groups for each of 32 operating points' layers stays below it.
MAX_OBUS = 2_048
MAX_SEQUENCE_HEADER_BYTES = 1_024  # 32 operating points take about 400
MAX_LEB128_BYTES = 8  # 4.10.5

_PROFILE_NAMES = ("Main", "High", "Professional")
_CP_BT709, _TC_SRGB, _MC_IDENTITY = 1, 13, 0


@dataclass(frozen=True, slots=True)
class Obu:
    type: int
    raw: bytes  # with header, as it was
    payload: bytes


@dataclass(frozen=True, slots=True)
class ColourConfig:
    """color_config() (5.5.2)."""

    bit_depth: int
    monochrome: bool
    subsampling_x: int
    subsampling_y: int
    sample_position: int
    colour: Colour | None  # None when nothing is said


@dataclass(frozen=True, slots=True)
class SequenceHeader:
    profile_idc: int
    level_idx: int  # of operating point 0
    tier: int
    width: int  # max_frame_width_minus_1 + 1
    height: int
    config: ColourConfig
    frame_rate: float | None

    @property
    def level(self) -> str:
        return f"{2 + (self.level_idx >> 2)}.{self.level_idx & 3}"

    @property
    def profile(self) -> str:
        """For people: `Main 4.0`."""
        return f"{_PROFILE_NAMES[self.profile_idc]} {self.level}{' high tier' if self.tier else ''}"


def obus_untrusted(data: bytes) -> Iterator[Obu]:
    """The OBUs of a temporal unit or av1C in low-overhead format (5.2); only the last may lack its size."""
    for kind, start, payload_at, end in obu_spans_untrusted(data):
        yield Obu(kind, data[start:end], data[payload_at:end])


def obu_spans_untrusted(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each OBU its type, where it starts, where its payload starts, where it ends. Copies nothing."""
    at, end = 0, len(data)
    for _ in range(MAX_OBUS):
        if at == end:
            return
        header = data[at]
        if header & 0x80:
            raise WireError("an OBU's forbidden bit is set")
        payload_at = at + (2 if header & 4 else 1)
        size = end - payload_at
        if header & 2:
            size, payload_at = _leb128(data, payload_at)
        if size < 0 or payload_at + size > end:
            raise WireError("an OBU is longer than its temporal unit")
        yield (header >> 3) & 15, at, payload_at, payload_at + size
        at = payload_at + size
    if at != end:
        raise WireError(f"a temporal unit has more than {MAX_OBUS} OBUs")


def sample_untrusted(temporal_unit: bytes) -> bytes:
    """The temporal unit without temporal delimiters, as a sample holds it (AV1-ISOBMFF 2.4)."""
    if temporal_unit.startswith(b"\x12\0") and b"\x12\0" not in temporal_unit[2:]:
        return temporal_unit[2:]
    return b"".join([obu.raw for obu in obus_untrusted(temporal_unit) if obu.type != OBU_TEMPORAL_DELIMITER])


def with_sizes_untrusted(obus: Iterable[bytes]) -> bytes:
    """OBUs, with or without size fields (RTP leaves them out), as a sample: delimiters dropped, sizes set."""
    pieces: list[bytes] = []
    for raw in obus:
        for obu in obus_untrusted(raw):
            if obu.type in (OBU_TEMPORAL_DELIMITER, OBU_TILE_LIST, OBU_PADDING):
                continue
            extension = obu.raw[1:2] if obu.raw[0] & 4 else b""
            pieces += (bytes((obu.raw[0] | 2,)), extension, _to_leb128(len(obu.payload)), obu.payload)
    return b"".join(pieces)


def config_from_sample_untrusted(data: bytes) -> bytes | None:
    """An av1C body from the sequence header in a sample, None when it holds none."""
    for obu in obus_untrusted(data):
        if obu.type == OBU_SEQUENCE_HEADER:
            return av1c_untrusted(obu.payload)
    return None


def av1c_untrusted(sequence_header: bytes) -> bytes:
    """An av1C body (AV1-ISOBMFF 2.3.3) around a sequence header OBU's payload."""
    header = parse_sequence_header_untrusted(sequence_header)
    config = header.config
    flags = header.tier << 7 | (config.bit_depth > 8) << 6 | (config.bit_depth == 12) << 5
    flags |= config.monochrome << 4 | config.subsampling_x << 3 | config.subsampling_y << 2
    flags |= config.sample_position
    head = bytes((0x81, header.profile_idc << 5 | header.level_idx, flags, 0))
    return head + bytes((OBU_SEQUENCE_HEADER << 3 | 2,)) + _to_leb128(len(sequence_header)) + sequence_header


def parse_av1c_untrusted(config: bytes) -> SequenceHeader | None:
    """The sequence header in an av1C body, None when the configuration carries no OBUs."""
    if len(config) < 4 or config[0] != 0x81:
        raise WireError("an av1C configuration is too short or has an unknown version")
    for obu in obus_untrusted(config[4:]):
        if obu.type == OBU_SEQUENCE_HEADER:
            return parse_sequence_header_untrusted(obu.payload)
    return None


def parse_sequence_header_untrusted(payload: bytes) -> SequenceHeader:
    """Parse sequence_header_obu() (5.5.1) without its OBU header."""
    if len(payload) > MAX_SEQUENCE_HEADER_BYTES:
        raise WireError("an AV1 sequence header is too long")
    bits = BitReader(payload)
    profile_idc = bits.u(3)
    if profile_idc > 2:
        raise WireError(f"AV1 has no profile {profile_idc}")
    bits.skip(1)  # still_picture
    reduced = bits.flag()
    rate = None
    if reduced:
        level_idx, tier = bits.u(5), 0
    else:
        rate, delay_bits = _timing(bits)
        level_idx, tier = _operating_points(bits, delay_bits)
    width, height = _size(bits, reduced)
    _skip_tools(bits, reduced)
    colour = _colour_config(bits, profile_idc)
    return SequenceHeader(profile_idc, level_idx, tier, width, height, colour, rate)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A leb128() number and where it ends (4.10.5)."""
    value = 0
    for index, byte in enumerate(data[at : at + MAX_LEB128_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise WireError("an OBU's size does not end")


def _to_leb128(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _timing(bits: BitReader) -> tuple[float | None, int]:
    """Frames per second when pictures are equally long; bits of decoder model delays, 0 without model."""
    if not bits.flag():  # timing_info_present_flag
        return None, 0
    ticks_per_unit, ticks_per_second = bits.u(32), bits.u(32)
    rate = None
    if bits.flag():  # equal_picture_interval
        rate = frame_rate(ticks_per_second, ticks_per_unit * (bits.uvlc() + 1))
    if not bits.flag():  # decoder_model_info_present_flag
        return rate, 0
    delay_bits = bits.u(5) + 1
    bits.skip(42)
    return rate, delay_bits


def _operating_points(bits: BitReader, delay_bits: int) -> tuple[int, int]:
    """Level and tier of operating point 0."""
    delay_present = bits.flag()
    levels = []
    for _ in range(bits.u(5) + 1):
        bits.skip(12)  # operating_point_idc
        level_idx = bits.u(5)
        levels.append((level_idx, bits.u(1) if level_idx > 7 else 0))
        if delay_bits and bits.flag():
            bits.skip(2 * delay_bits + 1)
        if delay_present and bits.flag():
            bits.skip(4)
    return levels[0]


def _size(bits: BitReader, reduced: bool) -> tuple[int, int]:
    width_bits, height_bits = bits.u(4) + 1, bits.u(4) + 1
    width, height = bits.u(width_bits) + 1, bits.u(height_bits) + 1
    check_size(width, height)
    if not reduced and bits.flag():  # frame_id_numbers_present_flag
        bits.skip(7)
    return width, height


def _skip_tools(bits: BitReader, reduced: bool) -> None:
    """use_128x128_superblock to enable_restoration."""
    bits.skip(3)
    if not reduced:
        bits.skip(4)
        order_hint = bits.flag()
        if order_hint:
            bits.skip(2)
        # seq_choose_screen_content_tools, else seq_force_screen_content_tools: when they may be on,
        # seq_choose_integer_mv, else seq_force_integer_mv.
        if (bits.flag() or bits.flag()) and not bits.flag():
            bits.skip(1)
        if order_hint:
            bits.skip(3)
    bits.skip(3)


def _colour_config(bits: BitReader, profile_idc: int) -> ColourConfig:
    high = bits.flag()
    depth = 10 if high else 8
    if profile_idc == 2 and high and bits.flag():
        depth = 12
    monochrome = profile_idc != 1 and bits.flag()
    described = bits.flag()
    points = (bits.u(8), bits.u(8), bits.u(8)) if described else (UNSPECIFIED,) * 3
    if not monochrome and points == (_CP_BT709, _TC_SRGB, _MC_IDENTITY):
        return ColourConfig(depth, False, 0, 0, 0, Colour(*points, True))
    full_range = bits.flag()
    colour = Colour(*points, full_range) if described or full_range else None
    if monochrome:
        return ColourConfig(depth, True, 1, 1, 0, colour)
    across, down = _subsampling(bits, profile_idc, depth)
    return ColourConfig(depth, False, across, down, bits.u(2) if across and down else 0, colour)


def _subsampling(bits: BitReader, profile_idc: int, depth: int) -> tuple[int, int]:
    if profile_idc < 2:
        return (1, 1) if profile_idc == 0 else (0, 0)
    if depth < 12:
        return 1, 0
    across = bits.u(1)
    return across, bits.u(1) if across else 0
