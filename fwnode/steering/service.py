"""Keeps what the choice of nodes knows up to date, and tells others where viewers reach this node."""

import msgspec
import trio

from fwnode import __version__
from fwnode.node import Node
from fwnode.setting import split_addresses
from fwnode.steering.around import MeshAround
from fwnode.steering.census import Census
from fwnode.steering.choosing import Locate
from fwnode.steering.doors import own_doors
from mesh.directory.facts import Doors
from mesh.node.presence import REACHABLE
from mesh.node.service import MeshNode

LOOK_S = 0.25  # between looks at what others say: five times as often as they say something new


async def steer(node: Node, mesh: MeshNode, locate: Locate) -> None:
    """Choose nodes for viewers until cancelled."""
    choosing, around = node.choosing, MeshAround(mesh.core)
    census = Census(mesh.core.gossip.directory, around, f"fwnode {__version__}")
    told: Doors | None = None
    try:
        while True:
            replication = node.replication
            around.liars = frozenset(replication.liars()) if replication is not None else frozenset()
            doors = _own_doors(node, mesh)
            if doors != told:
                told = choosing.own_doors = doors
                mesh.tell_all(doors)
            own = msgspec.structs.replace(choosing.own, closed=node.standing)
            census.look(own, node.reactor.now())
            if choosing.census is None:
                choosing.attach(census, locate, mesh.core.name_of)
            await trio.sleep(LOOK_S)
    finally:
        choosing.detach()


def _own_doors(node: Node, mesh: MeshNode) -> Doors:
    core = mesh.core
    bound = {option: listener.address for option, listener in node.listeners.items()}
    # A router that was asked to open the mesh port has opened no other.
    reachable = core.nat == REACHABLE and not core.presence.mapped
    return own_doors(
        split_addresses(node.config.public_url),
        bound,
        core.presence.hosts,
        reachable=reachable,
        closed=node.standing,
    )
