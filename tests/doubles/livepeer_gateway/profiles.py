"""Renditions as they are asked for: the profile record, presets, the default ladder, validation."""

import re
from dataclasses import dataclass, replace

ENCODERS = ("H.264", "HEVC", "VP8", "VP9")
H264_PROFILES = ("", "none", "h264baseline", "h264main", "h264high", "h264constrainedhigh")
INTRA = "intra"
OUTPUTS_MAX = 10  # LPMS MAX_OUTPUT_SIZE
_SECONDS = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)", re.ASCII)


class ProfileError(Exception):
    """A profile that no session can be made with."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One rendition. Bitrate in bits/s; fps 0 keeps the source's; gop in seconds as text."""

    name: str = ""
    width: int = 0
    height: int = 0
    bitrate: int = 0
    fps: int = 0
    fps_den: int = 0
    profile: str = ""
    gop: str = ""
    encoder: str = ""
    color_depth: int = 0
    chroma_format: int = 0
    quality: int = 0


def _preset(name: str, width: int, height: int, kbps: int, fps: int) -> Profile:
    return Profile(name, width, height, kbps * 1000, fps)


PRESETS = {
    preset.name: preset
    for preset in (
        _preset("P720p60fps16x9", 1280, 720, 6000, 60),
        _preset("P720p30fps16x9", 1280, 720, 4000, 30),
        _preset("P720p25fps16x9", 1280, 720, 3500, 25),
        _preset("P720p30fps4x3", 960, 720, 3500, 30),
        _preset("P576p30fps16x9", 1024, 576, 1500, 30),
        _preset("P576p25fps16x9", 1024, 576, 1500, 25),
        _preset("P360p30fps16x9", 640, 360, 1200, 30),
        _preset("P360p25fps16x9", 640, 360, 1000, 25),
        _preset("P360p30fps4x3", 480, 360, 1000, 30),
        _preset("P240p30fps16x9", 426, 240, 600, 30),
        _preset("P240p25fps16x9", 426, 240, 600, 25),
        _preset("P240p30fps4x3", 320, 240, 600, 30),
        _preset("P144p30fps16x9", 256, 144, 400, 30),
    )
}
DEFAULT_LADDER = (PRESETS["P240p30fps16x9"], PRESETS["P360p30fps16x9"])


def checked(profile: Profile) -> Profile:
    """The profile with its name filled in. Raises ProfileError."""
    if profile.profile.lower() not in H264_PROFILES:
        raise ProfileError(f"TranscoderUnrecognizedProfile {profile.profile!r}")
    if profile.encoder and profile.encoder not in ENCODERS:
        raise ProfileError(f"unrecognized encoder {profile.encoder!r}")
    gop_seconds(profile.gop)
    name = profile.name or f"custom_{profile.width}x{profile.height}_{profile.bitrate}"
    return replace(profile, name=name, encoder=profile.encoder or "H.264")


def gop_seconds(gop: str) -> float:
    """Seconds between keyframes; 0 leaves it to the encoder, -1 is intra only. Raises ProfileError."""
    if gop == INTRA:
        return -1.0
    if not gop:
        return 0.0
    if not _SECONDS.fullmatch(gop) or float(gop) < 0:
        raise ProfileError(f"TranscoderInvalidGOP {gop!r}")
    return float(gop)
