"""How long one audio frame sounds, by its codec's own headers. Pure."""

from functools import lru_cache

from media.bitstream import aac, ac3, flac, opus
from media.track.model import Codec, Track

# Configurations in use at once; each entry is some bytes.
_CONFIGS = 1_024


def frame_duration(track: Track, data: bytes) -> int | None:
    """Duration of an audio packet's `data` in ticks of track.timescale, rounded; None for video.

    Raises WireError when the frame's header or the configuration does not parse.
    """
    codec, timescale = track.codec, track.timescale
    if codec is Codec.AAC:
        return _aac_ticks(track.config, timescale)
    if codec is Codec.OPUS:
        samples, rate = opus.packet_ticks_untrusted(data), opus.RATE
    elif codec is Codec.FLAC:
        samples, rate = flac.block_size_untrusted(data), _flac_rate(track.config)
    elif codec is Codec.AC3:
        samples, rate = ac3.AC3_SAMPLES, ac3.parse_syncframe_untrusted(data).sample_rate
    elif codec is Codec.EAC3:
        samples = ac3.access_unit_samples_untrusted(data)
        rate = ac3.parse_syncframe_untrusted(data).sample_rate
    else:
        return None
    return samples if rate == timescale else _rescaled(samples, rate, timescale)


@lru_cache(_CONFIGS)
def _aac_ticks(config: bytes, timescale: int) -> int:
    parsed = aac.parse_config_untrusted(config)
    return _rescaled(parsed.frame_length, parsed.core_rate, timescale)


@lru_cache(_CONFIGS)
def _flac_rate(config: bytes) -> int:
    return flac.parse_config_untrusted(config).sample_rate


def _rescaled(samples: int, rate: int, timescale: int) -> int:
    return (samples * timescale + rate // 2) // rate
