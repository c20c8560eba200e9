"""One segment's request. Pure.

The configuration is what both dialects understand: upstream ignores keys that it does not know,
FrameWorks refuses them. Whole numbers stay whole: 29.97 or 1.0 for an integer is answered with 400.
"""

import json
from urllib.parse import urlsplit

import msgspec

from media.transcode.livepeer.order import H264_PROFILE, Gateway, Order, Profile
from media.transcode.livepeer.segmenter import Segment

ACCEPT = "multipart/mixed"  # compared letter by letter: anything else gets an empty answer
# An encoder's rate control misses its bitrate in one segment; containers add to small ones.
RATE_SLACK = 4
RENDITION_SLACK_BYTES = 2 * 1024 * 1024
PART_HEAD_BYTES = 4096  # a part's headers and boundary


class Request(msgspec.Struct, frozen=True):
    """What goes to a gateway, but for the connection."""

    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    answer_bytes_max: int


def build_request(gateway: Gateway, segment: Segment) -> Request:
    """The POST of that segment to that gateway."""
    parts = urlsplit(gateway.url)
    order = segment.order
    headers = [
        ("Host", parts.netloc),
        ("Accept", ACCEPT),
        ("Content-Type", "video/mp2t"),
        ("Content-Length", str(len(segment.body))),
        ("Content-Duration", str(max(1, round(segment.duration_s * 1000)))),
        ("Content-Resolution", f"{order.width}x{order.height}"),
        ("Livepeer-Transcode-Configuration", configuration(gateway, order)),
    ]
    if gateway.authorization:
        headers.append(("Authorization", gateway.authorization))
    target = f"{parts.path}/live/{order.manifest_id}/{segment.number}.ts"
    return Request(target, tuple(headers), segment.body, answer_bytes_max(segment))


def configuration(gateway: Gateway, order: Order) -> str:
    """The Livepeer-Transcode-Configuration header; ASCII."""
    config: dict[str, object] = {
        "profiles": [_profile(profile) for profile in order.profiles],
        "workload": "live",
    }
    if gateway.dialect == "frameworks":
        config["deadlineMs"] = round(order.budget_s * 1000)
        if gateway.job_token:
            config["jobToken"] = gateway.job_token
    return json.dumps(config, separators=(",", ":"))


def rendition_bytes_max(profile: Profile, duration_s: float) -> int:
    """More than an encoder makes of it."""
    return int(RATE_SLACK * profile.bps * duration_s / 8) + RENDITION_SLACK_BYTES


def answer_bytes_max(segment: Segment) -> int:
    """The largest answer that is read: each rendition at its bound."""
    return PART_HEAD_BYTES + sum(
        [
            PART_HEAD_BYTES + rendition_bytes_max(profile, segment.duration_s)
            for profile in segment.order.profiles
        ]
    )


def _profile(profile: Profile) -> dict[str, object]:
    return {
        "name": profile.name,
        "width": profile.width,
        "height": profile.height,
        "bitrate": profile.bps,
        "fps": profile.fps_num,
        "fpsDen": profile.fps_den,
        "profile": H264_PROFILE,
        "gop": "0.0",
    }
