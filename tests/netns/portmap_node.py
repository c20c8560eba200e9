"""Keeps a port mapped until SIGTERM and prints what it is told. Arguments: PORT WATCH_S LEASE_S SECRET."""

import json
import signal
import sys
from dataclasses import asdict

import trio

from mesh.nat.portmap.model import PortMapping
from mesh.nat.portmap.service import keep_mappings


def tell(began: float, name: str, value: object) -> None:
    print(json.dumps({"at_s": trio.current_time() - began, name: value}), flush=True)


async def keep(port: int, watch_s: float, lease_s: int, secret: bytes) -> None:
    began = trio.current_time()

    def on_change(mapping: PortMapping | None) -> None:
        tell(began, "mapping", mapping and asdict(mapping) | {"usable": mapping.usable})

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(
                lambda task_status: keep_mappings(
                    port,
                    on_change,
                    on_trouble=lambda text: tell(began, "trouble", text),
                    watch_s=watch_s,
                    lease_s=lease_s,
                    secret=secret,
                    task_status=task_status,
                )
            )
            async for _ in signals:
                nursery.cancel_scope.cancel()


trio.run(keep, int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode())
