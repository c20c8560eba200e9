"""`fwnode peers`."""

import sys
import time
from typing import Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.network import printable
from fwnode.cli.output import Json, bitrate, duration, print_json, print_table
from fwnode.cli.settings import DataDir
from fwnode.cli.streams import CLEAR_SCREEN, WATCH_INTERVAL_S
from fwnode.errors import UsageError

HEADING = ("NAME", "PLACE", "PATH", "RTT", "LOSS", "NAT", "LOAD", "STREAMS", "VERSION", "SINCE")
REFUSED_SHOWN_MAX = 10  # the newest; --json has them all
ALONE = "In no network: `fwnode invite` makes one, `fwnode join` enters one."


def peers(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show again every 2 s until Ctrl-C.")] = False,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Show the nodes of the network: where they are, by which path and since when, how far, how busy."""
    if watch and json:
        raise UsageError("--watch is for people; programs follow /api/v1/events of the admin address")
    node = control.find(data_dir, admin)
    while True:
        network, found = node.get("/network"), node.get("/peers")["peers"]
        if json:
            print_json({"network": network, "peers": found})
        else:
            if watch and sys.stdout.isatty():
                sys.stdout.write(CLEAR_SCREEN)
            now = time.time()
            print_table(HEADING, [row(peer, now) for peer in found])
            for line in notes(network, found, now):
                typer.echo(line)
        if not watch:
            return
        time.sleep(WATCH_INTERVAL_S)


def row(peer: dict[str, Any], now: float) -> tuple[str, ...]:
    """One node as people read it."""
    rtt = peer["rtt_ms"]
    return (
        peer["name"],
        _place(peer["place"]),
        peer["path"] or "no link",
        "-" if rtt is None else f"{rtt:.1f} ms" if rtt < 10 else f"{rtt:.0f} ms",
        "-" if peer["loss"] is None else f"{peer['loss']:.0%}",
        peer["nat"] or "-",
        _load(peer["load"]),
        ", ".join(peer["streams"]) or "-",
        peer["version"].removeprefix("fwnode ") or "-",
        duration(max(0.0, now - (peer["path_since_unix_s"] or peer["since_unix_s"]))),
    )


def notes(network: dict[str, Any], found: list[dict[str, Any]], now: float) -> list[str]:
    """What is odd, one line each: clocks, places that cannot be, who was refused."""
    if not network["network"]:
        return [ALONE]
    lines = []
    for peer in found:
        if peer["clock"]:
            lines.append(f"{peer['name']}: {peer['clock']}")
        if peer["place"] and peer["place"]["doubt"]:
            lines.append(f"{peer['name']}: place in doubt: {peer['place']['doubt']}")
    refused = network["refused"]
    for one in refused[:REFUSED_SHOWN_MAX]:
        who = one["address"] + (f" ({one['node'][:8]})" if one["node"] else "")
        times = "" if one["count"] == 1 else f", {one['count']} times"
        ago = duration(max(0.0, now - one["last_unix_s"]))
        verb = "refused" if one["by_us"] else "refused us"
        lines.append(f"{who} {verb}: {one['reason']} ({ago} ago{times})")
    if len(refused) > REFUSED_SHOWN_MAX:
        lines.append(f"... and {len(refused) - REFUSED_SHOWN_MAX} more refusals, see --json")
    return [printable(line) for line in lines]


def _place(place: dict[str, Any] | None) -> str:
    if place is None:
        return "-"
    where = f"{place['latitude']:.1f},{place['longitude']:.1f}"
    return f"{place['country']} {where}".strip() + (" ?" if place["doubt"] else "")


def _load(load: dict[str, Any] | None) -> str:
    if load is None:
        return "-"
    budget = f" of {bitrate(load['uplink_budget_bps'])}" if load["uplink_budget_bps"] else ""
    closed = f", {load['standing']}" if load.get("standing") else ""
    return f"{load['cpu']:.0%} cpu, {bitrate(load['uplink_bps'])}{budget}, {load['viewers']} viewers{closed}"
