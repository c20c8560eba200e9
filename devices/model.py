"""The words of this package: work to be done, what it costs on which device, what was decided.

Who transcodes talks to `devices.admission.Admission` in these words; all of it is plain data.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol, TypeAlias

import msgspec

CPU = "cpu"  # the device that software codecs run on; there is always exactly one
CODECS = ("h264", "hevc", "av1", "vp9")
HEADROOM = 0.75  # share of a device that may be reserved; the rest is for scenes that are harder than most


class Kind(StrEnum):
    """What an engine does."""

    ENCODER = "encoder"
    DECODER = "decoder"


class Source(msgspec.Struct, frozen=True):
    """Video that comes in. `codec` is one of CODECS."""

    codec: str
    width: int
    height: int
    fps: float
    bitrate_bps: int


class Rendition(msgspec.Struct, frozen=True):
    """Video that is to be made. An optional one is dropped first when there is too much to do."""

    name: str
    codec: str
    width: int
    height: int
    fps: float
    bitrate_bps: int
    optional: bool = False


class Work(msgspec.Struct, frozen=True):
    """One stream: decoded once, scaled and encoded once for each rendition."""

    source: Source
    renditions: tuple[Rendition, ...]


class CostVector(msgspec.Struct, frozen=True):
    """What one stream takes of one device.

    `decode`, `scale` and `encode` are busy seconds per second: of one core on the CPU, of the decoding,
    scaling or encoding unit on other devices. `sessions` are encoders open at the driver.
    """

    decode: float = 0.0
    scale: float = 0.0
    encode: float = 0.0
    memory_bytes: float = 0.0
    sessions: int = 0
    ingress_bps: float = 0.0
    egress_bps: float = 0.0

    def __add__(self, other: "CostVector") -> "CostVector":
        return CostVector(
            self.decode + other.decode,
            self.scale + other.scale,
            self.encode + other.encode,
            self.memory_bytes + other.memory_bytes,
            self.sessions + other.sessions,
            self.ingress_bps + other.ingress_bps,
            self.egress_bps + other.egress_bps,
        )

    @property
    def busy(self) -> float:
        """Seconds of computing per second, where one unit does it all."""
        return self.decode + self.scale + self.encode


Demand: TypeAlias = Mapping[str, CostVector]  # by device


class Device(msgspec.Struct, frozen=True):
    """What can be had of one device. None: not limited, or not known.

    `cores` is set for the CPU alone, where one pool of cores decodes, scales and encodes; it is less
    than the number that the system shows where two of them share a core. `sessions` is the number of
    encoders that the driver was seen to open at a time.
    """

    id: str
    name: str
    cores: float | None = None
    memory_bytes: float | None = None
    sessions: int | None = None
    ingress_bps: float | None = None
    egress_bps: float | None = None


class Choice(msgspec.Struct, frozen=True):
    """The engine for one job, to be opened just as it was tried.

    `options` are FFmpeg's options of the codec, `hwaccel` the type of a hardware device that it needs
    ("" for none), `device_name` what to give FFmpeg for it, `environment` what the process must have
    been started with so that the driver uses this device. `is_capped`: give it `maxrate` and `bufsize`
    beside the target bit rate; one that is not refuses them.
    """

    engine: str
    device: str
    pixel_format: str
    options: dict[str, str] = {}
    hwaccel: str = ""
    device_name: str = ""
    environment: dict[str, str] = {}
    is_capped: bool = True


class Plan(msgspec.Struct, frozen=True):
    """A stream was admitted: who decodes it, who encodes each rendition (by name), what was reserved."""

    decoder: Choice
    encoders: dict[str, Choice]
    demand: dict[str, CostVector]


class Refusal(msgspec.Struct, frozen=True):
    """A stream was not admitted, in words for people. Another node or a gateway may take it."""

    reason: str
    device: str = ""


class Usage(msgspec.Struct, frozen=True):
    """What a running stream was seen to take since its last report.

    `realtime_factors`: for each segment, time to transcode it without waiting for input, over its
    duration. `queue_waits`: for each segment, how long it waited to be begun, over its duration.
    """

    demand: dict[str, CostVector]
    realtime_factors: tuple[float, ...] = ()
    queue_waits: tuple[float, ...] = ()


class DropRendition(msgspec.Struct, frozen=True, tag="drop"):
    """Stop making an optional rendition at the next segment boundary."""

    stream: str
    rendition: str


class RestoreRendition(msgspec.Struct, frozen=True, tag="restore"):
    """Make a dropped rendition again from the next segment boundary on."""

    stream: str
    rendition: str


class SendAway(msgspec.Struct, frozen=True, tag="away"):
    """New streams go elsewhere from now on, until Welcome."""

    device: str
    reason: str


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """New streams may come again."""

    device: str


class MoveStream(msgspec.Struct, frozen=True, tag="move"):
    """Let another node or a gateway take over the whole stream at a segment boundary."""

    stream: str
    reason: str


Action: TypeAlias = DropRendition | RestoreRendition | SendAway | Welcome | MoveStream


class TakesStreams(Protocol):
    """What who transcodes asks of this package; `now` is monotonic seconds."""

    def admit(self, stream: str, work: Work, now: float) -> Plan | Refusal:
        """Reserve before starting. The plan it has, for a stream that was admitted before."""

    def measured(self, stream: str, usage: Usage, now: float) -> None:
        """What it really takes; to be told every few seconds."""

    def ended(self, stream: str, now: float) -> None:
        """Give back what it had. Unknown streams are ignored."""

    def failed(self, device: str, reason: str, now: float) -> None:
        """A device gave errors: nothing new is put on it for a while."""

    def free(self, work: Work, now: float) -> int:
        """How many more streams of such work fit now; all renditions of one codec."""

    def decide(self, now: float) -> list[Action]:
        """What to do about load; to be asked every second or so."""
