"""The clips that are published: 720p30 H.264 with B-frames at a constant rate, and AAC; made once."""

import subprocess
from pathlib import Path

LENGTH_MS = 16_000  # whole numbers of 1 s and 2 s groups and of AAC frames at 48 kHz (375 in 8 s)
VIDEO_KBPS, AUDIO_KBPS = 3000, 128  # 3.15 Mb/s with headers


class ClipError(Exception):
    """ffmpeg could not make the clip."""


def make(folder: Path, group_s: int) -> Path:
    """The FLV file with a keyframe every `group_s` seconds, from the cache or encoded now (about 10 s)."""
    target = folder / f"clip-720p30-g{group_s}.flv"
    if not target.exists():
        partial = target.with_suffix(".partial.flv")
        done = subprocess.run(_command(partial, group_s), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClipError(done.stderr[-500:])
        partial.rename(target)
    return target


def _command(target: Path, group_s: int) -> list[str]:
    """Noise makes the picture costly enough that the rate is reached without filler data."""
    seconds = LENGTH_MS // 1000 + 1
    rate = f"{VIDEO_KBPS}k"
    group = 30 * group_s
    x264 = f"nal-hrd=cbr:keyint={group}:min-keyint={group}:scenecut=0:open-gop=0:bframes=2"
    picture = f"testsrc2=size=1280x720:rate=30:duration={seconds},noise=alls=12:allf=t"
    return [
        *("ffmpeg", "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "lavfi", "-i", picture),
        *("-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=48000:duration={seconds}"),
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-x264-params", x264),
        *("-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate),
        *("-c:a", "aac", "-b:a", f"{AUDIO_KBPS}k", "-ac", "2", "-f", "flv", str(target)),
    ]
