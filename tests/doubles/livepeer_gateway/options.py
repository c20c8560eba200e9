"""How a double is set up."""

from dataclasses import dataclass

from livepeer_gateway.checks import BODY_BYTES_MAX, UPSTREAM
from livepeer_gateway.profiles import DEFAULT_LADDER, Profile
from livepeer_gateway.sessions import MAX_SESSIONS

TRANSCODE, REMEMBERED, REMUX = WORK = ("transcode", "remembered", "remux")


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that a command line or a test sets."""

    host: str = "127.0.0.1"
    port: int = 0
    control_port: int = 0
    dialect: str = UPSTREAM
    latency_s: float = 0.0  # of each try by an orchestrator, besides the work itself
    work: str = TRANSCODE
    preset: str = "medium"  # LPMS's; anything quicker is said to be a departure
    jobs: int = 2  # transcodes at a time, as the machine has cores
    max_sessions: int = MAX_SESSIONS
    max_attempts: int = 3
    orchestrators: int = 3
    gpu: bool = False  # orchestrators that take 4:2:0 only
    webhook: str = ""
    job_token: str = ""  # FrameWorks: the token that is asked for
    http_ingest: bool = True
    body_bytes_max: int = BODY_BYTES_MAX
    outside_store: str = ""  # renditions are answered as URIs below this one
    ladder: tuple[Profile, ...] = DEFAULT_LADDER
