"""What the control API says, as types: the OpenAPI document is made from these. Pure."""

from typing import Annotated, Any, Literal

import msgspec

from fwnode.config import SETTINGS, Config
from fwnode.keys import ANY_STREAM, LABEL_LENGTH_MAX, StreamKey
from media.track.stream import StreamStatistics

Described = msgspec.Meta
MASK = "***"


class NodeStatus(msgspec.Struct, frozen=True):
    """The node at one moment; counters are since its start."""

    name: str
    version: str
    pid: int
    state: Annotated[Literal["ready", "draining"], Described(description="Draining: about to stop.")]
    started_unix_s: int
    uptime_s: float
    data_dir: str
    listeners: Annotated[
        dict[str, str], Described(description="Bound addresses by the option that set them.")
    ]
    open_ingest: Annotated[bool, Described(description="Publishers need no stream key.")]
    streams: int
    publishers: int
    viewers: int
    connections: Annotated[int, Described(description="Open TCP connections on the public listeners.")]
    connections_accepted: int
    connections_refused: Annotated[int, Described(description="Turned away by a limit.")]
    publishers_refused: Annotated[int, Described(description="Turned away by key, name or a stream in use.")]
    bytes_in: int
    bytes_out: int
    faults: Annotated[dict[str, int], Described(description="Connections that ended badly, by kind.")]
    memory_bytes: Annotated[int, Described(description="Resident memory of the process.")]
    cpu_s: Annotated[float, Described(description="CPU time of the process, children not included.")]


class StreamList(msgspec.Struct, frozen=True):
    """Every stream by name."""

    streams: list[StreamStatistics]


class KeyView(msgspec.Struct, frozen=True):
    """A stream key, without what would let anybody publish."""

    id: str
    stream: Annotated[str, Described(description="Streams it may publish: a name or a pattern with *.")]
    label: str
    created_unix_s: int
    last_used_unix_s: int | None


class KeyList(msgspec.Struct, frozen=True):
    """Every stream key, oldest first."""

    keys: list[KeyView]


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream key to make."""

    stream: Annotated[str, Described(description="A stream name, or a pattern with *.", max_length=63)] = (
        ANY_STREAM
    )
    label: Annotated[str, Described(max_length=LABEL_LENGTH_MAX)] = ""


class NewKey(msgspec.Struct, frozen=True):
    """A stream key just made. `key` is in this answer and nowhere else."""

    key: str
    id: str
    stream: str
    label: str


class SettingView(msgspec.Struct, frozen=True):
    """One setting in force."""

    key: str
    value: str | float | int | bool
    origin: Annotated[str, Described(description='"default", file:line, environment variable or option.')]
    default: str | float | int | bool | None
    unit: str
    accepted: str
    help: str
    variable: str


class ConfigView(msgspec.Struct, frozen=True):
    """Every setting in force; secrets are masked."""

    settings: list[SettingView]
    warnings: list[str]


class ApiError(msgspec.Struct, frozen=True):
    """Why a request was not done."""

    error: Annotated[str, Described(description="For programs.")]
    message: Annotated[str, Described(description="For people.")]


class Snapshot(msgspec.Struct, frozen=True):
    """What an event of type `snapshot` carries: everything that the dashboard shows."""

    status: NodeStatus
    streams: list[StreamStatistics]


class StreamEvent(msgspec.Struct, frozen=True):
    """What an event of type `stream` carries: a stream appeared, changed state or went."""

    name: str
    state: Annotated[str, Described(description="starting, live, lingering, ended or gone.")]


class FindingEvent(msgspec.Struct, frozen=True):
    """What an event of type `finding` carries: something about a publisher hurts its viewers."""

    stream: str
    code: str
    severity: str
    message: str
    fix: str


class DroppedEvent(msgspec.Struct, frozen=True):
    """What an event of type `dropped` carries: this client read too slowly and missed so many."""

    count: int


def key_view(key: StreamKey) -> KeyView:
    """A key as the API shows it."""
    return KeyView(key.id, key.pattern, key.label, key.created_unix_s, key.last_used_unix_s or None)


def config_view(config: Config) -> ConfigView:
    """The settings as the API shows them."""
    return ConfigView([_setting_view(config, key) for key in SETTINGS], list(config.warnings))


def _setting_view(config: Config, key: str) -> SettingView:
    setting = SETTINGS[key]
    value: Any = config.value(key)
    return SettingView(
        key=key,
        value=MASK if setting.detail.secret and value else value,
        origin=config.origin(key),
        default=setting.default,
        unit=setting.detail.unit,
        accepted=setting.accepted,
        help=setting.detail.help,
        variable=setting.variable,
    )
