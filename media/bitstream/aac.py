"""AAC: AudioSpecificConfig and ADTS headers. Pure. ISO 14496-3 1.6.2, 4.4.1, 1.A.2."""

from dataclasses import dataclass

from media.bitstream.bits import BitReader
from media.errors import Refused, WireError

SAMPLE_RATES = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
)  # fmt: skip
ADTS_HEADER_BYTES = 7
MAX_ADTS_FRAME_BYTES = (1 << 13) - 1
MAX_CONFIG_BYTES = 512  # a program config element with its comment ends below it

_LC, _SSR, _SBR, _SCALABLE = 2, 3, 5, 6
_ER_LD, _ER_BSAC, _PS, _ESCAPE, _ELD = 23, 22, 29, 31, 39
_GENERAL_AUDIO = frozenset((1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23))
_ERROR_RESILIENT = frozenset((17, 19, 20, 23))
_SYNC_SBR, _SYNC_PS = 0x2B7, 0x548
_RATE_ESCAPE = 15
# Channels by channelConfiguration (table 1.19 and its amendments); 0 means a program config element.
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 13: 24, 14: 8}
_PROFILE_NAMES = {1: "Main", 2: "LC", 3: "SSR", 4: "LTP", 23: "LD", 39: "ELD"}


@dataclass(frozen=True, slots=True)
class AudioConfig:
    object_type: int  # of the core codec: 2 is LC
    core_rate: int  # Hz, before spectral band replication
    channel_configuration: int
    core_channels: int
    frame_length: int  # samples of each channel in an access unit, at core_rate
    sbr_rate: int = 0  # Hz after spectral band replication, 0 when it is not signalled
    ps: bool = False  # parametric stereo

    @property
    def sample_rate(self) -> int:
        """Hz of what the decoder gives."""
        return self.sbr_rate or self.core_rate

    @property
    def channels(self) -> int:
        return 2 if self.ps and self.core_channels == 1 else self.core_channels

    @property
    def codec_string(self) -> str:
        return f"mp4a.40.{_PS if self.ps else _SBR if self.sbr_rate else self.object_type}"

    @property
    def profile(self) -> str:
        """For people: `LC`, `HE`, `HE v2`."""
        if self.ps or (self.sbr_rate and self.object_type == _LC):
            return "HE v2" if self.ps else "HE"
        return _PROFILE_NAMES.get(self.object_type, f"object type {self.object_type}")


@dataclass(frozen=True, slots=True)
class AdtsHeader:
    header_bytes: int  # 7, or 9 with a checksum
    frame_bytes: int  # header included
    config: bytes  # the AudioSpecificConfig that says the same


def parse_config_untrusted(config: bytes) -> AudioConfig:
    """Parse an AudioSpecificConfig, with hierarchical or backward compatible signalling of SBR and PS."""
    if not 2 <= len(config) <= MAX_CONFIG_BYTES:
        raise WireError("an AudioSpecificConfig is too short or too long")
    bits = BitReader(config)
    object_type, core_rate, channel_configuration = _object_type(bits), _rate(bits), bits.u(4)
    sbr_rate, ps = 0, object_type == _PS
    if object_type in (_SBR, _PS):
        sbr_rate, object_type = _rate(bits), _object_type(bits)
        if object_type == _ER_BSAC:
            bits.skip(4)
    if object_type in _GENERAL_AUDIO:
        frame_length, listed = _general_audio(bits, object_type, channel_configuration)
    elif object_type == _ELD:
        frame_length, listed = (480 if bits.flag() else 512), 0
    else:
        raise WireError(f"AAC object type {object_type} is not supported")
    channels = listed or _CHANNELS.get(channel_configuration, 0)
    if not channels:
        raise WireError(f"AAC channel configuration {channel_configuration} is reserved")
    if not sbr_rate and object_type != _ELD:
        sbr_rate, ps = _sync_extension(bits)
    return AudioConfig(object_type, core_rate, channel_configuration, channels, frame_length, sbr_rate, ps)


def adts_header(base: int, payload_bytes: int) -> bytes:
    """The 7 bytes (no checksum) before an access unit of `payload_bytes`; `base` is from `adts_base`.

    Raises Refused for access units too long for ADTS.
    """
    frame_bytes = payload_bytes + ADTS_HEADER_BYTES
    if frame_bytes > MAX_ADTS_FRAME_BYTES:
        raise Refused(f"an AAC frame of {payload_bytes} bytes is too long for ADTS")
    return (base | frame_bytes << 13).to_bytes(ADTS_HEADER_BYTES, "big")


def adts_base(config: AudioConfig) -> int:
    """The header as an integer, without its frame length.

    Raises Refused for configurations that ADTS cannot say.
    """
    if config.object_type > 4 or config.core_rate not in SAMPLE_RATES:
        raise Refused(f"ADTS cannot carry AAC {config.profile} at {config.core_rate} Hz")
    if not 0 < config.channel_configuration <= 7 or config.frame_length != 1024:
        raise Refused("ADTS cannot carry this AAC channel layout or frame length")
    fields = (config.object_type - 1) << 6 | SAMPLE_RATES.index(config.core_rate) << 2
    return 0xFFF1 << 40 | fields << 32 | config.channel_configuration << 30 | 0x7FF << 2


def parse_adts_untrusted(data: bytes, at: int = 0) -> AdtsHeader:
    """Parse the ADTS header at `at`; the frame itself need not be there in full."""
    head = data[at : at + ADTS_HEADER_BYTES]
    if len(head) < ADTS_HEADER_BYTES or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        raise WireError("not an ADTS header")
    header_bytes = 7 if head[1] & 1 else 9
    frame_bytes = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    rate_index = (head[2] >> 2) & 15
    if frame_bytes < header_bytes or rate_index >= len(SAMPLE_RATES):
        raise WireError("an ADTS header has an impossible length or rate")
    if head[6] & 3:
        raise WireError("an ADTS frame holds several access units")
    channels = (head[2] & 1) << 2 | head[3] >> 6
    if not channels:
        raise WireError("an ADTS header names no channel configuration")
    config = ((head[2] >> 6) + 1) << 11 | rate_index << 7 | channels << 3
    return AdtsHeader(header_bytes, frame_bytes, config.to_bytes(2, "big"))


def _object_type(bits: BitReader) -> int:
    object_type = bits.u(5)
    return 32 + bits.u(6) if object_type == _ESCAPE else object_type


def _rate(bits: BitReader) -> int:
    index = bits.u(4)
    rate = bits.u(24) if index == _RATE_ESCAPE else 0
    if index < len(SAMPLE_RATES):
        rate = SAMPLE_RATES[index]
    if not rate:
        raise WireError("an AudioSpecificConfig has no usable sample rate")
    return rate


def _general_audio(bits: BitReader, object_type: int, channel_configuration: int) -> tuple[int, int]:
    """GASpecificConfig (4.4.1): frame length; channels of its program config element, 0 without one."""
    short = bits.flag()  # frameLengthFlag
    if bits.flag():  # dependsOnCoreCoder
        bits.skip(14)
    extension = bits.flag()
    listed = 0 if channel_configuration else _program_channels(bits)
    if object_type in (_SCALABLE, 20):
        bits.skip(3)
    if extension:
        bits.skip(16 if object_type == _ER_BSAC else 3 if object_type in _ERROR_RESILIENT else 0)
        bits.skip(1)
    if object_type == _ER_LD:
        return (480 if short else 512), listed
    return (960 if short else 1024), listed


def _program_channels(bits: BitReader) -> int:
    """program_config_element() (4.5.1.2): how many channels it lists."""
    bits.skip(10)
    front, side, back, low, data, coupling = (bits.u(width) for width in (4, 4, 4, 2, 3, 4))
    for width in (4, 4, 3):  # mono, stereo and matrix mixdown
        if bits.flag():
            bits.skip(width)
    channels = low
    for _ in range(front + side + back):
        channels += 1 + bits.u(1)
        bits.skip(4)
    bits.skip(4 * low + 4 * data + 5 * coupling)
    bits.align()
    bits.skip(8 * bits.u(8))  # comment
    return channels


def _sync_extension(bits: BitReader) -> tuple[int, bool]:
    """Backward compatible signalling (1.6.5): rate after SBR (0: none), parametric stereo."""
    if bits.left < 16 or bits.u(11) != _SYNC_SBR or _object_type(bits) != _SBR or not bits.flag():
        return 0, False
    rate = _rate(bits)
    return rate, bits.left >= 12 and bits.u(11) == _SYNC_PS and bits.flag()
