"""What gateways are asked for: their addresses, the renditions, and one run's name. Pure.

go-livepeer server/mediaserver.go (upstream) and the FrameWorks fork's server/ingest_config.go.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec

PROFILES_MAX = 10  # outputs that a transcoder makes of one segment (lpms MAX_OUTPUT_SIZE)
GATEWAYS_MAX = 16  # guess: more than anybody pays
SLUG_MAX_LETTERS = 48
RUN_HEX_DIGITS = 8  # also keeps an ID from ending in "live", which gateways cut out of paths
FPS_DEN_MAX = 1001
KEEP_SLACK = 0.9  # as the local ladder: 60 pictures a second in whole milliseconds look like 62
MEDIA_FPS_MAX = 240
JOB_TOKEN_MAX_BYTES = 16 * 1024  # FrameWorks refuses longer ones
URL_MAX_LETTERS = 512

# CABAC without B-frames: pictures come back in the order in which they were sent.
H264_PROFILE = "H264ConstrainedHigh"

_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_TOKEN = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")

Dialect = Literal["upstream", "frameworks"]


class Gateway(msgspec.Struct, frozen=True):
    """One gateway as the operator named it; see `checked`."""

    url: str  # http or https; a path is a reverse proxy's
    dialect: Dialect = "upstream"
    authorization: str = ""  # the whole value of the Authorization header, for a reverse proxy
    job_token: str = ""  # for the gateway's webhook; FrameWorks only
    price_header: str = ""  # the answer's header that says what it cost; a whole number


class Profile(msgspec.Struct, frozen=True):
    """One rendition that is ordered. `fps_num` 0: every picture of the source."""

    name: str
    side: int
    width: int
    height: int
    bps: int
    fps_num: int = 0
    fps_den: int = 1


class Order(msgspec.Struct, frozen=True):
    """What is the same for all segments of one run: the gateway's session lives as long as its ID is used."""

    manifest_id: str
    profiles: tuple[Profile, ...]
    width: int  # of the source
    height: int
    budget_s: float  # from a segment's end to the latest useful answer
    hevc: bool = False  # the gateways take H.265


class Rung(Protocol):
    """A planned rendition of a ladder."""

    @property
    def side(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def bps(self) -> int: ...
    @property
    def fps(self) -> int: ...


def checked(gateway: Gateway) -> Gateway:
    """The same, without a slash at its URL's end. Raises ValueError whose text says what is wrong."""
    text = gateway.url.rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f'"{gateway.url}" is no address: {error}') from None
    host = parts.hostname or ""
    if len(text) > URL_MAX_LETTERS or parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise ValueError(f'"{gateway.url}" is no gateway: write http://host:8935 or https://host')
    if parts.username is not None or parts.query or parts.fragment or port == 0:
        raise ValueError(f'"{gateway.url}": only a host, a port and a path belong here')
    if not _PREFIX.fullmatch(parts.path):
        raise ValueError(f'"{gateway.url}": its path has letters that need escaping')
    if "live/" in f"{parts.path}/":
        raise ValueError(f'"{gateway.url}": gateways cut "live/" out of paths; leave it away')
    if gateway.authorization and not _TOKEN.fullmatch(gateway.authorization):
        raise ValueError("the authorization of a gateway is one line of ASCII")
    if len(gateway.job_token.encode()) > JOB_TOKEN_MAX_BYTES:
        raise ValueError(f"a job token has at most {JOB_TOKEN_MAX_BYTES} bytes")
    return msgspec.structs.replace(gateway, url=text)


def profiles_of(rungs: Sequence[Rung], source_fps: float) -> tuple[Profile, ...]:
    """The renditions to order for a ladder's rungs, in their order. `source_fps` 0: not known."""
    return tuple([_profile(rung, source_fps) for rung in rungs[:PROFILES_MAX]])


def manifest_id(stream: str, random: Random) -> str:
    """A new name for one run of a stream: `[a-z0-9-]`, never ending in "live"."""
    slug = _NOT_SLUG.sub("-", stream.lower())[:SLUG_MAX_LETTERS].strip("-") or "stream"
    return f"{slug}-{random.getrandbits(4 * RUN_HEX_DIGITS):0{RUN_HEX_DIGITS}x}"


def _profile(rung: Rung, source_fps: float) -> Profile:
    rate = Fraction(0)  # passthrough: the same pictures at the same times
    if source_fps > 0 and rung.fps < source_fps * KEEP_SLACK:
        every = 1
        while every < MEDIA_FPS_MAX and every / source_fps < KEEP_SLACK / rung.fps:
            every += 1
        rate = Fraction(source_fps).limit_denominator(FPS_DEN_MAX) / every
        rate = rate.limit_denominator(FPS_DEN_MAX)
    return Profile(
        f"{rung.side}p", rung.side, rung.width, rung.height, rung.bps, rate.numerator, rate.denominator
    )
