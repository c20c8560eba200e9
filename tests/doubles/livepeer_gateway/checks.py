"""What is asked of a push before it is worked on, in the gateway's order, with its statuses and texts."""

from collections.abc import Mapping
from dataclasses import dataclass

from livepeer_gateway import naming
from livepeer_gateway.configuration import (
    Configuration,
    ConfigurationError,
    read_frameworks,
    read_upstream,
)
from livepeer_gateway.naming import Target

UPSTREAM, FRAMEWORKS = DIALECTS = ("upstream", "frameworks")
BODY_BYTES_MAX = 300_000_000  # MaxSegSize: 300 s of 8 Mb/s
DURATION_MS = 2000  # when Content-Duration is missing or no number
DURATION_MS_MAX = 300_000
EXTENSIONS = (".ts", ".mp4")
NO_SESSIONS = "No sessions available"


class Refused(Exception):
    """An answer other than success: a status and one line of text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text

    @property
    def body(self) -> bytes:
        return f"{self.text}\n".encode()


@dataclass(frozen=True, slots=True)
class Push:
    """A request that passed the first checks. `configuration` None: no header."""

    target: Target
    url: str
    configuration: Configuration | None
    clip_ms: tuple[int, int] | None
    wants_parts: bool


def read_head(method: str, path: str, headers: Mapping[str, str], dialect: str) -> Configuration | None:
    """Checks 1 and 2, before the body is read. Raises Refused."""
    if method not in ("POST", "PUT"):
        host = headers.get("host", "")
        raise Refused(405, f"http push request wrong method={method} url={url_of(path, headers)} host={host}")
    header = headers.get("livepeer-transcode-configuration", "")
    if not header:
        return None
    try:
        return read_frameworks(header) if dialect == FRAMEWORKS else read_upstream(header)
    except ConfigurationError as error:
        raise Refused(400, f'failed to parse transcode config header: "{error}"') from None


def read_rest(path: str, headers: Mapping[str, str], configuration: Configuration | None) -> Push:
    """Checks 4 to 6, after the body. Raises Refused."""
    target = naming.target_of(path)
    if target.extension not in EXTENSIONS:
        raise Refused(400, f"ignoring file extension: {target.extension}")
    clip = _clip(headers)
    if not target.manifest_id:
        raise Refused(400, f"Bad URL url={url_of(path, headers)}")
    wants = headers.get("accept", "") == "multipart/mixed"
    return Push(target, url_of(path, headers), configuration, clip, wants)


def _clip(headers: Mapping[str, str]) -> tuple[int, int] | None:
    begin = naming.atoi(headers.get("content-slice-from", ""), -1)
    end = naming.atoi(headers.get("content-slice-to", ""), -1)
    if begin < 0 or end < 0:
        return None
    if begin > end:
        raise Refused(400, f"Invalid slice config from={begin}ms to={end}ms")
    return begin, end


def duration_ms(push: Push, headers: Mapping[str, str]) -> int:
    """Check 11. Raises Refused."""
    duration = naming.atoi(headers.get("content-duration", ""), DURATION_MS)
    if not 0 <= duration <= DURATION_MS_MAX:
        raise segment_error(500, push, "invalid duration")
    return duration


def segment_error(status: int, push: Push, error: str) -> Refused:
    """The text of everything that goes wrong after the session is there."""
    return Refused(
        status,
        f"http push error processing segment url={push.url} manifestID={push.target.manifest_id} "
        f'err="{error}"',
    )


def no_stream(push: Push, status: int) -> Refused:
    """A session that cannot be: denied (403), or badly asked for, or no room (500)."""
    return Refused(status, f"Could not create stream ID: url={push.url}")


def url_of(path: str, headers: Mapping[str, str]) -> str:
    """The URL as the gateway rebuilds it: the query is gone."""
    return f"http://{headers.get('host', '')}{path}"


def answer_by_s(
    configuration: Configuration | None, session_deadline_ms: int, workload: str, ms: int
) -> float:
    """FrameWorks: seconds within which the answer is given, whatever it is."""
    deadline = (configuration.deadline_ms if configuration else 0) or session_deadline_ms
    budget = deadline or (30_000 if workload == "vod" else ms + 1000)
    return max(budget - 500, 0) / 1000
