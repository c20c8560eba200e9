"""What is tried to learn how a router maps and filters. Pure: see `mesh.nat.asking` for how trials run.

Each uses the mesh port only where nothing else will do, and never in a way that leaves a trace in the router
that would spoil a later connection: strangers knock from throw-away ports, or at throw-away sockets.
"""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mesh.address import host_of, split_address
from mesh.model import NodeId
from mesh.nat.asking import MESH_SOCKET, Ask, Asking, Opening, Pause, Probe, Trial
from mesh.nat.facts import PORT_DELTA_MAX, Filtering, Mapping

SAMPLES = 3  # throw-away sockets for the port delta: two that agree are believed
IDLE_S = (28.0, 18.0, 13.0)  # tried of a mapping's lifetime: keepalives of 25, 15 and 10 s


@dataclass(frozen=True, slots=True)
class Server:
    """A public node: numeric "host:port" of its mesh port, and who it is when there is a link to it."""

    address: str
    peer: NodeId | None

    @property
    def host(self) -> str:
        return host_of(self.address)

    @property
    def family(self) -> int:
        return 6 if self.address.startswith("[") else 4


@dataclass(slots=True)
class Mapped:
    """What servers said of the mesh port; `address` as most of them saw it, "" when none answered."""

    mapping: Mapping = Mapping.UNKNOWN
    address: str = ""
    answered: tuple[Server, ...] = ()


def mapping_trial(servers: Sequence[Server], own_hosts: Container[str]) -> Trial[Mapped]:
    """Ask two servers from the mesh port, all others only when these leave a doubt.

    A single server that lies is outvoted where there are two honest ones.
    """
    seen: list[tuple[Server, str]] = []
    for some in (servers[:2], servers[2:]):
        asks = [Ask(MESH_SOCKET, server.address) for server in some]
        yield asks
        seen += [(server, ask.mapped) for server, ask in zip(some, asks, strict=True) if ask.mapped]
        if len(seen) == 2 and seen[0][1] == seen[1][1]:
            break
    if not seen:
        return Mapped()
    address, votes = Counter(mapped for _, mapped in seen).most_common(1)[0]
    if host_of(address) in own_hosts:
        mapping = Mapping.NONE
    elif len(seen) == 1:
        mapping = Mapping.UNKNOWN
    else:
        mapping = Mapping.INDEPENDENT if votes * 2 > len(seen) else Mapping.DEPENDENT
    return Mapped(mapping, address, tuple(server for server, _ in seen))


def steps_trial(asking: Asking, first: Server, second: Server) -> Trial[tuple[Mapping, int | None]]:
    """How far apart the outside ports of one socket towards two servers are, and whether that repeats.

    Not measured on the mesh port, whose two mappings may be hours apart. A delta of zero means that the mesh
    port was only unlucky (another's packets took its port towards one of the servers).
    """
    opening = Opening(SAMPLES, first.family)
    yield [opening]
    deltas: Counter[int] = Counter()
    with _released(asking, opening):
        for socket in opening.sockets:
            one, other = Ask(socket, first.address), Ask(socket, second.address)
            yield [one]
            yield [other]
            if one.mapped and other.mapped:
                deltas[split_address(other.mapped)[1] - split_address(one.mapped)[1]] += 1
    if not deltas:
        return Mapping.UNKNOWN, None
    delta, votes = deltas.most_common(1)[0]
    if votes < 2 or abs(delta) > PORT_DELTA_MAX:
        return Mapping.DEPENDENT, None
    return (Mapping.DEPENDENT, delta) if delta else (Mapping.INDEPENDENT, None)


def filtering_trial(
    asking: Asking, servers: Sequence[Server], asked: Container[str], mapped: str, mapping: Mapping
) -> Trial[Filtering]:
    """Have a node knock whom this node never sent anything to, and see whether it is let in.

    `asked`: hosts that the mesh port sent to lately; `mapped`: where the mesh port is seen. With a third node
    it knocks at the mesh port. With two, at a throw-away socket that only talked to the other; and with one,
    or where only the mesh port is forwarded, ports of the same node tell the rest. That nobody came counts
    only when the same node is heard as soon as it has been sent to.
    """
    linked = [server for server in servers if server.peer is not None]
    third = next((server for server in reversed(linked) if server.host not in asked), None)
    if third is not None and (yield from _knock(third, MESH_SOCKET, mapped, fresh=True)):
        return Filtering.INDEPENDENT
    if not linked:
        return Filtering.UNKNOWN
    prober = third or linked[-1]
    other = next((server for server in servers if server.host != prober.host), None)
    opening = Opening(1, prober.family)
    yield [opening]
    with _released(asking, opening):
        for socket in opening.sockets:
            if third is None and other is not None and (yield from _let_in(prober, socket, other)):
                return Filtering.INDEPENDENT
            back = Ask(socket, prober.address)
            yield [back]
            if not (back.mapped and (yield from _knock(prober, socket, back.mapped, fresh=False))):
                return Filtering.UNKNOWN  # the prober does not send, or cannot
            if third is not None:
                return Filtering.DEPENDENT
            if (yield from _knock(prober, socket, back.mapped, fresh=True)):
                return _without_second(mapping) if other is None else Filtering.DEPENDENT  # by address
            forwarded = yield from _knock(prober, MESH_SOCKET, mapped, fresh=True)
            return Filtering.INDEPENDENT if forwarded else Filtering.DEPENDENT
    return Filtering.UNKNOWN


def _without_second(mapping: Mapping) -> Filtering:
    """Another port of the one node there is was let in: a firewall does not do so, a router may."""
    return Filtering.INDEPENDENT if mapping is Mapping.NONE else Filtering.UNKNOWN


def hairpin_trial(mapped: str) -> Trial[bool]:
    """Whether a packet to the own outside address comes back in."""
    ask = Ask(MESH_SOCKET, mapped)
    yield [ask]
    return ask.looped or bool(ask.mapped)


def lifetime_trial(asking: Asking, server: Server) -> Trial[float | None]:
    """The longest of IDLE_S after which a mapping still lets its destination in, 0 for none.

    None when that cannot be told: the server does not answer, or sends no probe when asked.
    """
    for idle_s in IDLE_S:
        opening = Opening(1, server.family)
        yield [opening]
        if not opening.sockets:
            return None
        with _released(asking, opening):
            for socket in opening.sockets:
                ask = Ask(socket, server.address)
                yield [ask]
                if not ask.mapped:
                    return None
                yield [Pause(idle_s)]
                if (yield from _knock(server, socket, ask.mapped, fresh=False)):
                    return idle_s
                if not (yield from _let_in(server, socket, server, fresh=False)):
                    return None
    return 0.0


def _let_in(prober: Server, socket: int, sent_to: Server, *, fresh: bool = True) -> Trial[bool]:
    """Whether the prober's knock arrives at a socket that just sent something to `sent_to`."""
    ask = Ask(socket, sent_to.address)
    yield [ask]
    return bool(ask.mapped) and (yield from _knock(prober, socket, ask.mapped, fresh=fresh))


def _knock(prober: Server, socket: int, mapped: str, *, fresh: bool) -> Trial[bool]:
    if prober.peer is None:
        return False
    probe = Probe(prober.peer, prober.host, socket, mapped, fresh)
    yield [probe]
    return probe.came


@contextmanager
def _released(asking: Asking, opening: Opening) -> Iterator[None]:
    """Close what was opened, also when the trial is ended from outside."""
    try:
        yield
    finally:
        asking.close(opening.sockets)
