"""What a running mesh shows of itself. Pure."""

from typing import Annotated

import msgspec

Described = msgspec.Meta


class PeerLoad(msgspec.Struct, frozen=True):
    """How busy a node says that it is."""

    cpu: Annotated[float, Described(description="Share of all cores, 0 to 1.")]
    uplink_bps: int
    uplink_budget_bps: Annotated[int, Described(description="0: no limit set.")]
    viewers: int
    sessions: int
    standing: Annotated[
        str,
        Described(description="Why it lets nobody new in: draining, paused, quiet, volume; empty: it does."),
    ] = ""


class PeerPlace(msgspec.Struct, frozen=True):
    """Where a node says that it is."""

    latitude: float
    longitude: float
    country: str
    source: Annotated[str, Described(description="configured, city or country.")]
    doubt: Annotated[
        str, Described(description="Why it cannot be true, by the round trip; empty when it can.")
    ]


class PeerView(msgspec.Struct, frozen=True):
    """One node of the network, this one included."""

    name: str
    node: Annotated[str, Described(description="The node's public key, 64 hexadecimal digits.")]
    state: Annotated[str, Described(description="self, connected (a live link) or known (by gossip).")]
    path: Annotated[
        str,
        Described(
            description="self, lan, direct, mapped (a port that a router opened), punched (through NAT), "
            '"relayed via NAME"; empty without a link.'
        ),
    ]
    address: str
    rtt_ms: float | None
    place: PeerPlace | None
    nat: str
    load: PeerLoad | None
    streams: list[str]
    roles: list[str]
    version: str
    since_unix_s: Annotated[
        int, Described(description="When the link came up, or the node was first heard of.")
    ]
    clock: Annotated[str, Described(description="What is odd about its clock; empty when nothing.")]
    loss: Annotated[
        float | None,
        Described(description="Share of the link's pings of the last minute without an answer, 0 to 1."),
    ] = None
    path_since_unix_s: Annotated[
        int | None, Described(description="When the link took the path that it has; null without a link.")
    ] = None
    why_relayed: Annotated[
        str,
        Described(description="Why no direct path was found, when the link is relayed and that is known."),
    ] = ""


class RefusedPeer(msgspec.Struct, frozen=True):
    """Somebody with whom no link was made, and why."""

    address: str
    node: Annotated[str, Described(description="Public key, when it was shown.")]
    reason: str
    by_us: Annotated[bool, Described(description="This node refused; otherwise the other one did.")]
    count: int
    last_unix_s: int


class PortmapStatus(msgspec.Struct, frozen=True):
    """Whether the router opened the mesh port."""

    state: Annotated[
        str,
        Described(
            description="off (not asked), asking (no word yet; a host with a public address asks nobody), "
            "mapped (others are told), unusable (of no use outside) or refused."
        ),
    ] = "off"
    protocol: Annotated[str, Described(description="pcp, nat-pmp or upnp; empty without a mapping.")] = ""
    external: Annotated[str, Described(description="host:port at the router.")] = ""
    said: Annotated[str, Described(description="What the router said, or why there is none, for people.")] = (
        ""
    )
    gateway: str = ""
    lease_s: Annotated[float, Described(description="0: it does not end.")] = 0.0


class NatStatus(msgspec.Struct, frozen=True):
    """What the routers before this node do. Empty and null: not known."""

    udp: Annotated[bool, Described(description="The mesh port takes UDP.")] = False
    kind: Annotated[str, Described(description="open, consistent, predictable, impenetrable or blocked.")] = (
        ""
    )
    words: Annotated[
        list[str],
        Described(description="For people: what the router does, what that allows, what would help."),
    ] = []
    mapping: Annotated[str, Described(description="Which outside address packets get.")] = ""
    filtering: Annotated[str, Described(description="Whose packets come in.")] = ""
    mapped: Annotated[list[str], Described(description="Outside addresses of the mesh port, by STUN.")] = []
    port_delta: int | None = None
    lifetime_s: Annotated[
        float | None, Described(description="An idle mapping was still there after so long.")
    ] = None
    hairpin: bool | None = None
    tcp: Annotated[str, Described(description="Whether others can connect over TCP: open or closed.")] = ""
    servers: Annotated[int, Described(description="Addresses of members that can be asked by STUN.")] = 0
    portmap: PortmapStatus = PortmapStatus()
    counters: Annotated[dict[str, int], Described(description="Counts since the start, by name.")] = {}


class SecondOpinion(msgspec.Struct, frozen=True):
    """The router as pystun3 sees it, by RFC 3489."""

    said: Annotated[str, Described(description="As much of the type as could be known.")]
    mapped: Annotated[str, Described(description="Outside address of a throw-away socket.")]
    servers: Annotated[list[str], Described(description="Members that were asked.")]
    sent: Annotated[int, Described(description="Packets that it took.")]


class MeshStatus(msgspec.Struct, frozen=True):
    """This node's network."""

    network: Annotated[str, Described(description="The network's public key; empty when in none.")]
    owner: Annotated[bool, Described(description="This node holds the network's owner key.")]
    node: str
    name: str
    roles: list[str]
    member_until_unix_s: int
    members: Annotated[int, Described(description="Nodes known to live, this one included.")]
    links: int
    seeds: list[str]
    refused: list[RefusedPeer]
    counters: Annotated[dict[str, int], Described(description="Counts since the start, by name.")]
    nat: NatStatus = NatStatus()
