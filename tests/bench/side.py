"""Starts one process of a row about the mesh: `side.py KIND SPEC`, SPEC being its *Spec class as JSON."""

import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec
import trio
from fwbench.load.control import run
from fwbench.network.bulk import Receiver, Sender
from fwbench.network.control import Service, obey
from fwbench.network.nat_node import obey_rounds
from fwbench.network.relay import Relay, Spliced
from fwbench.network.specs import (
    DoorSpec,
    ReceiverSpec,
    RelaySpec,
    SenderSpec,
    SplicedSpec,
    StrangerSpec,
    SwarmSpec,
)
from fwbench.network.strangers import Door, Stranger
from fwbench.network.swarm import Swarm

S = TypeVar("S")


def main(kind: str, spec: str) -> None:
    match kind:
        case "receiver":
            _serve(Receiver, spec, ReceiverSpec)
        case "sender":
            _serve(Sender, spec, SenderSpec)
        case "relay":
            _serve(Relay, spec, RelaySpec)
        case "door":
            _serve(Door, spec, DoorSpec)
        case "swarm":
            _serve(Swarm, spec, SwarmSpec)
        case "spliced":
            run(Spliced(msgspec.json.decode(spec, type=SplicedSpec)))
        case "nat":
            trio.run(obey_rounds)
        case "stranger":
            run(Stranger(msgspec.json.decode(spec, type=StrangerSpec)))
        case _:
            raise SystemExit(f"no side is called {kind!r}")


def _serve(make: Callable[[S], Service], spec: str, shape: type[S]) -> None:
    async def serve() -> None:
        await obey(make(msgspec.json.decode(spec, type=shape)))

    trio.run(serve)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
