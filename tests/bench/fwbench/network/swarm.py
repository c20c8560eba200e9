"""Many nodes of one network in one process, each with its own key, claim, socket and links."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import trio

from fwbench.load.control import Result
from fwbench.network import members
from fwbench.network.bulk import bound
from fwbench.network.specs import HOST, SwarmSpec
from mesh.directory.facts import CarriedStreams, Load
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.identity.membership import Membership
from mesh.node.service import MeshNode, MeshParts
from mesh.node.steps import MeshSettings

_LOAD_S = 1.0  # as the program does
_IDLE = Load(0, 0, 0.01, 0, 0, 0)


class Swarm:
    """Says the address of its first node. Its nodes are not announced on the LAN: a seed leads to them."""

    def __init__(self, spec: SwarmSpec) -> None:
        self._spec = spec
        self._nodes: list[MeshNode] = []

    async def run(self, *, task_status: trio.TaskStatus[Result]) -> None:
        seeds = tuple(self._spec.seeds)
        with tempfile.TemporaryDirectory() as folder:
            async with trio.open_nursery() as nursery:
                for number in range(self._spec.nodes):
                    address = await self._start(nursery, number, seeds, Path(folder, f"{number}-{FILE_NAME}"))
                    seeds = seeds or (address,)
                task_status.started({"address": seeds[0]})
                while True:
                    for node in self._nodes:
                        node.set_load(_IDLE)
                        node.set_streams(CarriedStreams([]))
                    await trio.sleep(_LOAD_S)

    async def _start(
        self, nursery: trio.Nursery, number: int, seeds: tuple[str, ...], peers_file: Path
    ) -> str:
        name = f"{self._spec.name}-{number}"
        sock = bound()
        address = f"{HOST}:{sock.getsockname()[1]}"
        key = members.new_key()
        membership = Membership(members.join(self._spec.invite, key, name))
        settings = MeshSettings(name, members.PROGRAM, sock.getsockname()[1], announce=(address,))
        parts = MeshParts(_keep, _note, PeersFile(peers_file), seeds, mdns=False)
        node = MeshNode(key, membership, None, settings, parts)
        await nursery.start(node.run, [sock])
        self._nodes.append(node)
        return address

    def begin(self) -> None:
        """It only runs."""

    def end(self) -> Result:
        known = [len(node.peers()) for node in self._nodes]
        links = [node.status().links for node in self._nodes]
        return {"known_min": float(min(known)), "links": sum(links) / len(links)}


def _keep(_state: bytes) -> None:
    """Nobody starts it again."""


def _note(_event: str, _facts: Mapping[str, str]) -> None:
    """Nobody reads it."""
