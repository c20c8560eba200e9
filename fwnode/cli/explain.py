"""`fwnode explain`."""

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from fwnode.cli import control
from fwnode.cli.network import printable
from fwnode.cli.output import Json, print_json, print_table
from fwnode.cli.settings import DataDir

HEADING = ("", "NODE", "TOTAL", "WAY", "AWAY", "SOURCE", "UPLINK", "CPU", "SPREAD", "KM", "STREAM", "WHY")


def explain(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")],
    address: Annotated[
        str, typer.Option("--from", metavar="ADDR", help="The viewer's address, IPv4 or IPv6.")
    ],
    protocol: Annotated[
        str, typer.Option("--protocol", help="What the viewer needs: http, https, rtmp or rtmps.")
    ] = "http",
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Show which node a viewer is sent to: every candidate, its cost in milliseconds, and why it lost."""
    query = urlencode({"address": address, "protocol": protocol})
    found = control.find(data_dir, admin).get(f"{control.path_of('explain', stream)}?{query}")
    if json:
        print_json(found)
        return
    for line in about(found):
        typer.echo(printable(line))
    if found["candidates"]:
        print_table(HEADING, [row(number, each) for number, each in enumerate(found["candidates"], 1)])


def about(found: dict[str, Any]) -> list[str]:
    """Who is chosen, and where the viewer is taken to be."""
    place = found["place"]
    if place is not None:
        town = ", ".join(part for part in (place["city"], place["country"]) if part)
        where = f"{town} {place['latitude']:.1f},{place['longitude']:.1f} ({place['source']})".strip()
    elif found["local"]:
        where = "on a network of this node"
    else:
        where = "nowhere that is known"
    chosen = found["chosen_name"] or "nobody"
    resort = ", beyond what its owner allows" if found["last_resort"] else ""
    return [
        f"{found['stream']}: {chosen}{resort}: {found['reason']}",
        f"{found['address']} is {where}, and needs {found['door']}",
    ]


def row(number: int, each: dict[str, Any]) -> tuple[str, ...]:
    """One candidate as people read it."""
    terms = each["terms"]
    barred = each["standing"] == "barred"
    costs = ("path", "away", "source", "uplink", "cpu", "spread")
    shown = ["-" if barred else f"{terms[name]:.2f}" for name in costs]
    stream = "has it" if each["has_stream"] else f"from {each['source_name']}" if each["source"] else "no"
    return (
        str(number),
        printable(each["name"]),
        "-" if barred else f"{each['total_ms']:.2f}",
        *shown,
        "-" if each["distance_km"] is None else str(each["distance_km"]),
        printable(stream),
        printable(each["why"]) or "-",
    )
