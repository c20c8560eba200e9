"""Where a node is and how it can be reached, as far as it knows itself. Pure."""

from collections.abc import Sequence

from mesh.address import host_of
from mesh.directory.facts import Where
from mesh.discovery.candidates import is_lan, join_address, make_candidates
from mesh.errors import WireError
from mesh.link.control import ADDRESSES_MAX
from mesh.link.model import Peer
from mesh.model import NodeId
from mesh.nat.facts import NatFacts, NatKind, encode_facts, parse_facts_untrusted
from mesh.nat.punch_steps import Side

OBSERVED_MAX = 8  # addresses of this node that peers saw, newest kept
REACHABLE = "open"  # others can connect over TCP
UNREACHABLE = "closed"


class Presence:
    """Own addresses, configured, found, seen by peers and opened by the router."""

    def __init__(self, port: int, announce: Sequence[str]) -> None:
        self.hosts: tuple[str, ...] = ()
        self.observed: dict[str, None] = {}  # "host:port" of this node as peers saw it
        self.nat = ""  # REACHABLE, UNREACHABLE, or not known
        self.udp = NatFacts()
        self.mapped = ""  # by the router, on request
        self._port = port
        self._announce = tuple(announce)

    def move(self, hosts: Sequence[str]) -> bool:
        """Numeric addresses of this host; whether it had others before."""
        moved = bool(self.hosts) and set(hosts) != set(self.hosts)
        self.hosts = tuple(hosts)
        if moved:
            self.observed.clear()
        return moved

    @property
    def candidates(self) -> list[str]:
        """Where others may dial this node, the best first."""
        mapped = (self.mapped,) if self.mapped else ()
        return make_candidates(
            self._port, self.hosts, (*self._announce, *mapped), list(reversed(self.observed))
        )

    def where(self, relays: list[NodeId]) -> Where:
        """The node's record."""
        return Where(self.candidates, self.nat, relays, encode_facts(self.udp), self.mapped)

    def side(self) -> Side:
        """What to tell a peer that looks for a UDP path to this node."""
        hosts = [join_address(host, self._port) for host in self.hosts]
        found = dict.fromkeys((*hosts, *((self.mapped,) if self.mapped else ()), *self.udp.mapped))
        return Side(tuple(found)[:ADDRESSES_MAX], self.udp.kind, self.udp.port_delta)

    def observe(self, peer: Peer) -> str:
        """A peer says what it dialled, or from where it saw us come.

        Returns the address that it should be asked to try, "" when that is not needed.
        """
        far = not is_lan(peer.remote)
        ask = ""
        if peer.dialled:
            seen = join_address(host_of(peer.observed), self._port)
            if self.mapped and host_of(self.mapped) == host_of(peer.observed):
                seen = self.mapped
            if far and self.nat != REACHABLE:
                ask = seen
        else:
            seen = peer.observed
            if far:
                self.nat = REACHABLE
        self.observed.pop(seen, None)
        self.observed[seen] = None
        while len(self.observed) > OBSERVED_MAX:
            del self.observed[next(iter(self.observed))]
        return ask


def answers_strangers(where: Where) -> bool:
    """Whether a node's UDP port can be expected to answer who was never sent anything."""
    try:
        return parse_facts_untrusted(where.udp).kind in (NatKind.OPEN, NatKind.UNKNOWN)
    except WireError:
        return False
