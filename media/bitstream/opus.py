"""Opus: OpusHead, dOps and the length of packets. Pure.

RFC 6716 3.1, RFC 7845 5.1, Encapsulation of Opus in ISO Base Media File Format 4.3.2.
"""

from dataclasses import dataclass

from media.errors import WireError

RATE = 48_000  # Hz: times of Opus are always counted in it
MAX_PACKET_TICKS = 5_760  # 120 ms (RFC 6716 3.2.5, R5)
_MAGIC = b"OpusHead"
_FIXED_BYTES = 11  # dOps up to and with the mapping family

# 48 kHz ticks of one frame by TOC configuration (RFC 6716 table 2).
_FRAME_TICKS = (
    *(480, 960, 1_920, 2_880) * 3,  # SILK
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # CELT
)


@dataclass(frozen=True, slots=True)
class OpusConfig:
    channels: int
    pre_skip: int  # 48 kHz ticks that the decoder throws away at the start
    input_rate: int  # Hz of what was encoded; for people only
    mapping_family: int


def parse_config_untrusted(config: bytes) -> OpusConfig:
    """Parse a dOps body."""
    if len(config) < _FIXED_BYTES or config[0] != 0:
        raise WireError("a dOps configuration is too short or has an unknown version")
    channels, family = config[1], config[10]
    if not channels or (family == 0 and channels > 2):
        raise WireError(f"an Opus configuration has {channels} channels in mapping family {family}")
    if family and len(config) < _FIXED_BYTES + 2 + channels:
        raise WireError("a dOps configuration lacks its channel mapping")
    pre_skip, rate = int.from_bytes(config[2:4], "big"), int.from_bytes(config[4:8], "big")
    return OpusConfig(channels, pre_skip, rate, family)


def config_from_head_untrusted(head: bytes) -> bytes:
    """A dOps body from an OpusHead packet: the same fields, big endian."""
    if len(head) < len(_MAGIC) + _FIXED_BYTES or not head.startswith(_MAGIC) or head[8] >> 4:
        raise WireError("not an OpusHead of a known version")
    config = b"\0" + head[9:10] + head[11:9:-1] + head[15:11:-1] + head[17:15:-1] + head[18:]
    if not config[10]:
        config = config[:_FIXED_BYTES]
    parse_config_untrusted(config)
    return config


def default_config(channels: int) -> bytes:
    """A dOps body for mono or stereo that came without one, as over RTP (RFC 7587)."""
    # 80 ms, the pre-skip that RFC 7845 4.2 advises for streams joined in the middle.
    return bytes((0, channels)) + (3_840).to_bytes(2, "big") + RATE.to_bytes(4, "big") + b"\0\0\0"


def packet_ticks_untrusted(packet: bytes) -> int:
    """How long a packet sounds, in 48 kHz ticks, by its TOC byte (RFC 6716 3.1)."""
    if not packet:
        raise WireError("an empty Opus packet")
    code = packet[0] & 3
    count = 1 if code == 0 else 2
    if code == 3:
        if len(packet) < 2:
            raise WireError("an Opus packet lacks its frame count")
        count = packet[1] & 0x3F
    ticks = count * _FRAME_TICKS[packet[0] >> 3]
    if not 0 < ticks <= MAX_PACKET_TICKS:
        raise WireError("an Opus packet is empty or longer than 120 ms")
    return ticks
