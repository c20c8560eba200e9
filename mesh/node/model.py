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
        str, Described(description='self, lan, direct, "relayed via NAME", empty without a link.')
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


class RefusedPeer(msgspec.Struct, frozen=True):
    """Somebody with whom no link was made, and why."""

    address: str
    node: Annotated[str, Described(description="Public key, when it was shown.")]
    reason: str
    by_us: Annotated[bool, Described(description="This node refused; otherwise the other one did.")]
    count: int
    last_unix_s: int


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
