"""What the control API says, as types: the OpenAPI document is made from these. Pure."""

import dataclasses
from typing import Annotated, Any, Literal

import msgspec

from fwnode.config import SETTINGS, Config
from fwnode.keys import ANY_STREAM, LABEL_LENGTH_MAX, Keyring, StreamKey
from fwnode.network import Expelled, Joined, Network
from fwnode.promise.holds import EVERYBODY
from fwnode.promise.holds import Role as HoldRole
from fwnode.promise.model import PromiseView
from fwnode.replication.model import Counters, Replicating, StreamPlace, UplinkView
from fwnode.workers.crew import WorkerStatus
from media.deliver.quality.model import QualityView
from media.track.stream import StreamStatistics
from mesh.identity.claim import NAME_LENGTH_MAX, NAME_RULE, USES_MAX, to_roles
from mesh.identity.invite import EXPIRES_S, EXPIRES_S_MAX, EXPIRES_S_MIN, SEEDS_MAX, Invite, Terms
from mesh.identity.line import LINE_CHARACTERS_MAX
from mesh.identity.owner import PASSPHRASE_CHARACTERS_MAX, PASSPHRASE_CHARACTERS_MIN
from mesh.model import Role
from mesh.node.model import MeshStatus, PeerView
from mesh.node.speed.model import BYTES as SPEED_BYTES
from mesh.node.speed.model import BYTES_MAX as SPEED_BYTES_MAX

Described = msgspec.Meta
MASK = "***"
HOLD_S_MAX = 366 * 86_400  # of a drain or a pause: longer is for ever
Line = Annotated[str, Described(max_length=LINE_CHARACTERS_MAX)]
Passphrase = Annotated[
    str,
    Described(
        description=f"At least {PASSPHRASE_CHARACTERS_MIN} characters.", max_length=PASSPHRASE_CHARACTERS_MAX
    ),
]
HoldTime = Annotated[float, Described(gt=0, le=HOLD_S_MAX)]
USUAL_ROLES = tuple(sorted(Terms().roles))


class NodeStatus(msgspec.Struct, frozen=True):
    """The node at one moment; counters are since its start."""

    name: str
    version: str
    pid: int
    state: Annotated[
        Literal["ready", "draining", "paused"],
        Described(description="Draining: about to stop, or told to; paused: lets nobody new in."),
    ]
    started_unix_s: int
    uptime_s: float
    data_dir: str
    listeners: Annotated[
        dict[str, str], Described(description="Bound addresses by the option that set them.")
    ]
    open_ingest: Annotated[bool, Described(description="Publishers need no stream key.")]
    streams: int
    publishers: Annotated[int, Described(description="Streams that somebody publishes here now.")]
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
    edges: Annotated[int, Described(description="Streams given to other nodes now.")] = 0
    workers: Annotated[
        list[WorkerStatus], Described(description="Processes that deliver beside it; totals include theirs.")
    ] = []
    promise: Annotated[
        PromiseView | None, Described(description="What the owner promised and what of it is used.")
    ] = None
    quality: Annotated[
        QualityView | None, Described(description="What all viewers see. Null: no player told.")
    ] = None


class StreamView(StreamStatistics, frozen=True):
    """A stream's counters, all since it began, and its place in the network."""

    place: Annotated[
        StreamPlace | None, Described(description="Null: other nodes do not have to do with it.")
    ] = None
    quality: Annotated[
        QualityView | None, Described(description="What its viewers here see. Null: no player told.")
    ] = None


class StreamList(msgspec.Struct, frozen=True):
    """Every stream by name."""

    streams: list[StreamView]


class ReplicationView(msgspec.Struct, frozen=True):
    """Streams of this node for others and of others for it; counts since it entered its network."""

    active: Annotated[bool, Described(description="The node takes part in a network.")]
    edges: Annotated[
        int, Described(description="Streams that are given now, one for each node that takes it.")
    ]
    copies: Annotated[int, Described(description="Streams that are taken from other nodes now.")]
    uplink: UplinkView | None
    counters: Annotated[dict[str, int], Described(description="Counts by name.")]
    liars: Annotated[
        list[str],
        Described(description="Public keys of nodes that altered media; nothing is taken from them."),
    ]


class KeyView(msgspec.Struct, frozen=True):
    """A stream key, without what would let anybody publish."""

    id: str
    stream: Annotated[str, Described(description="Streams it may publish: a name or a pattern with *.")]
    label: Annotated[str, Described(description="Kept on the node that it was made on, and empty on others.")]
    created_unix_s: int
    last_used_unix_s: Annotated[int | None, Described(description="On this node.")]
    local: Annotated[bool, Described(description="Good on the node that it was made on only.")]
    made_here: bool
    node: Annotated[str, Described(description="Public key of the node that it was made on.")]
    node_name: str


class KeyList(msgspec.Struct, frozen=True):
    """Every stream key that is good on this node: those made here first, then others, each oldest first."""

    keys: list[KeyView]


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stream key to make."""

    stream: Annotated[str, Described(description="A stream name, or a pattern with *.", max_length=63)] = (
        ANY_STREAM
    )
    label: Annotated[str, Described(max_length=LABEL_LENGTH_MAX)] = ""
    local: Annotated[
        bool, Described(description="Good on this node only, not on all of its network that take streams in.")
    ] = False


class NewKey(msgspec.Struct, frozen=True):
    """A stream key just made. `key` is in this answer and nowhere else."""

    key: str
    id: str
    stream: str
    label: str
    local: bool


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


class PeerList(msgspec.Struct, frozen=True):
    """Every known node of the network, this one first."""

    peers: list[PeerView]


class InviteRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An invite to make."""

    roles: Annotated[tuple[Role, ...], Described(description="That whoever joins with it may have.")] = (
        USUAL_ROLES
    )
    uses: Annotated[int, Described(description="Nodes that may join with it.", ge=1, le=USES_MAX)] = 1
    expires_s: Annotated[int, Described(ge=EXPIRES_S_MIN, le=EXPIRES_S_MAX)] = EXPIRES_S
    invites: Annotated[
        int, Described(description="Nodes that each new inviter may admit itself.", ge=0, le=USES_MAX)
    ] = 0
    seeds: Annotated[
        list[str],
        Described(description='"host:port" to try first; none: this node.', max_length=SEEDS_MAX),
    ] = []


class NewInvite(msgspec.Struct, frozen=True):
    """An invite just made. `invite` is a secret until it is used up or expired."""

    invite: str
    expires_unix_s: int
    uses: int
    roles: list[Role]
    seeds: list[str]
    network: str


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network to join."""

    invite: Line
    name: Annotated[
        str | None,
        Described(description=f"{NAME_RULE}. Default: the node's configured name."),
    ] = None
    roles: Annotated[list[Role] | None, Described(description="Default: all that the invite gives.")] = None


class JoinedView(msgspec.Struct, frozen=True):
    """This node as a member of the network that it joined."""

    network: str
    name: str
    roles: list[Role]
    member_until_unix_s: int
    notes: Annotated[list[str], Described(description="About the clock, for people.")]


class RevocationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node to expel."""

    node: Annotated[
        str,
        Described(
            description="Its name when no other has it, its key, or 8 digits or more of that.",
            min_length=1,
            max_length=2 * NAME_LENGTH_MAX,
        ),
    ]


class RevokedNode(msgspec.Struct, frozen=True):
    """A node just expelled, for ever."""

    node: str
    name: str
    note: Annotated[str, Described(description="What else the owner should know, for people.")]


class OwnerExportRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the exported owner key is encrypted with."""

    passphrase: Passphrase


class OwnerExport(msgspec.Struct, frozen=True):
    """The network's owner key, encrypted."""

    line: str


class OwnerImportRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exported owner key for this node."""

    line: Line
    passphrase: Passphrase


class OwnedNetwork(msgspec.Struct, frozen=True):
    """The network whose owner key this node has now."""

    network: str


class SpeedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a speed test transfers."""

    bytes: Annotated[int, Described(ge=1, le=SPEED_BYTES_MAX)] = SPEED_BYTES


class DrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to go, and how long nobody new is let in."""

    roles: Annotated[
        list[HoldRole], Described(description="None: all of them.", max_length=len(EVERYBODY))
    ] = []
    for_s: Annotated[HoldTime | None, Described(description="Null: until it is resumed.")] = None


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long nobody new is let in."""

    for_s: Annotated[HoldTime | None, Described(description="Null: until it is resumed.")] = None


class ApiError(msgspec.Struct, frozen=True):
    """Why a request was not done."""

    error: Annotated[str, Described(description="For programs.")]
    message: Annotated[str, Described(description="For people.")]


class Snapshot(msgspec.Struct, frozen=True):
    """What an event of type `snapshot` carries: everything that the dashboard shows."""

    status: NodeStatus
    streams: list[StreamView]
    network: MeshStatus
    peers: list[PeerView]
    replication: ReplicationView


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


def stream_view(
    statistics: StreamStatistics, place: StreamPlace | None, quality: QualityView | None = None
) -> StreamView:
    """A stream as the API shows it."""
    fields = {name: getattr(statistics, name) for name in statistics.__struct_fields__}
    return StreamView(**fields, place=place, quality=quality)


def replication_view(replication: Replicating | None, copies: int) -> ReplicationView:
    """Replication as the API shows it; `copies` is the number of streams that are taken from others."""
    if replication is None:
        return ReplicationView(False, 0, copies, None, dataclasses.asdict(Counters()), [])
    counters = dataclasses.asdict(replication.counters)
    return ReplicationView(
        True, replication.edges, copies, replication.uplink(), counters, replication.liars()
    )


def key_list(keyring: Keyring, network: Network) -> KeyList:
    """All keys as the API shows them."""
    own = network.own_view()
    made_here = [_key_view(key, own.node, own.name) for key in keyring.all()]
    others = [_key_view(key, key.maker.hex(), key.maker_name) for key in keyring.foreign()]
    return KeyList(made_here + others)


def new_key_view(text: str, key: StreamKey) -> NewKey:
    """A key just made, with its text."""
    return NewKey(text, key.id, key.pattern, key.label, key.local)


def _key_view(key: StreamKey, node: str, node_name: str) -> KeyView:
    return KeyView(
        key.id,
        key.pattern,
        key.label,
        key.created_unix_s,
        key.last_used_unix_s or None,
        key.local,
        not key.maker,
        node,
        node_name,
    )


def terms_of(request: InviteRequest) -> Terms:
    """What an invite that was asked for gives."""
    return Terms(frozenset(request.roles), request.uses, request.expires_s, invites=request.invites)


def invite_view(invite: Invite) -> NewInvite:
    """An invite with its secret. Raises Refused when it is too long for one line."""
    grant = invite.grant
    roles = sorted(to_roles(grant.roles))
    return NewInvite(
        invite.line(), grant.not_after, grant.uses, roles, list(invite.seeds), invite.network.hex()
    )


def joined_view(joined: Joined) -> JoinedView:
    """A membership as the API shows it."""
    return JoinedView(
        joined.network.hex(), joined.name, sorted(joined.roles), joined.not_after_unix_s, list(joined.notes)
    )


def revoked_view(expelled: Expelled) -> RevokedNode:
    """A revocation as the API shows it."""
    return RevokedNode(expelled.node_id.hex(), expelled.name, expelled.note)


def wanted_roles(request: JoinRequest) -> frozenset[Role] | None:
    """The roles that a node asks for, None for all that the invite gives."""
    return None if request.roles is None else frozenset(request.roles)


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
