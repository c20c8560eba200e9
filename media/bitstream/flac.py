"""FLAC: STREAMINFO and frame headers. Pure. RFC 9639 8.2 and 9.1, Encapsulation of FLAC in ISOBMFF 3.3.2."""

from dataclasses import dataclass

from media.errors import WireError

STREAMINFO_BYTES = 34
_BLOCK_HEADER_BYTES = 4
_LAST_STREAMINFO = b"\x80\0\0\x22"


@dataclass(frozen=True, slots=True)
class StreamInfo:
    sample_rate: int  # Hz
    channels: int
    bit_depth: int


def config_from_streaminfo_untrusted(streaminfo: bytes) -> bytes:
    """dfLa's metadata blocks from the 34 bytes of a STREAMINFO block, which becomes the only one."""
    config = _LAST_STREAMINFO + streaminfo[:STREAMINFO_BYTES]
    parse_config_untrusted(config)
    return config


def parse_config_untrusted(config: bytes) -> StreamInfo:
    """Parse metadata blocks that begin with STREAMINFO."""
    block = config[_BLOCK_HEADER_BYTES:]
    if len(block) < STREAMINFO_BYTES or config[0] & 0x7F or config[1:4] != _LAST_STREAMINFO[1:]:
        raise WireError("a FLAC configuration does not begin with STREAMINFO")
    fields = int.from_bytes(block[10:14], "big")
    rate = fields >> 12
    if not rate:
        raise WireError("a FLAC configuration has no sample rate")
    return StreamInfo(rate, (fields >> 9 & 7) + 1, (fields >> 4 & 0x1F) + 1)


def block_size_untrusted(frame: bytes) -> int:
    """Samples of each channel in a frame, by its header (RFC 9639 9.1.1)."""
    if len(frame) < 6 or frame[0] != 0xFF or frame[1] & 0xFE != 0xF8:
        raise WireError("not a FLAC frame")
    code = frame[2] >> 4
    if code == 0:
        raise WireError("a FLAC frame has a reserved block size")
    if code == 1:
        return 192
    if code <= 5:
        return 144 << code
    if code >= 8:
        return 1 << code
    at = 4 + _coded_number_bytes(frame[4])
    field = frame[at : at + code - 5]
    if len(field) != code - 5:
        raise WireError("a FLAC frame header ends early")
    return int.from_bytes(field, "big") + 1


def _coded_number_bytes(first: int) -> int:
    """Length of the UTF-8 like frame or sample number that begins with `first` (9.1.5)."""
    ones = 8 - (first ^ 0xFF).bit_length()
    if ones == 1 or ones == 8:
        raise WireError("a FLAC frame number is damaged")
    return ones or 1
