"""`fwnode speedtest`."""

import re
from typing import Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.network import printable
from fwnode.cli.output import Json, print_json, size
from fwnode.cli.settings import DataDir
from fwnode.errors import NodeError, UsageError
from mesh.node.speed.model import BYTES_MAX, TEST_S

UNITS = {"": 1, "k": 1000, "M": 1_000_000, "G": 1_000_000_000}
ANSWER_S = TEST_S + 15.0  # the node stops by itself


def speedtest(
    node: Annotated[
        str,
        typer.Argument(metavar="NODE", help="Its name when no other has it, or 8 digits or more of its key."),
    ],
    amount: Annotated[
        str, typer.Option("--bytes", metavar="N", help="How much it sends: 500k, 100M, 1G.")
    ] = "100M",
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Measure how fast bytes come from a node, by which paths, and whether each was right."""
    wanted = parse_amount(amount)
    path = control.path_of("peers", node, "test")
    running = control.find(data_dir, admin)
    found = running.request("POST", path, {"bytes": wanted}, answer_s=ANSWER_S)
    if json:
        print_json(found)
    else:
        for line in lines(found):
            typer.echo(printable(line))
    if not found["intact"]:
        raise NodeError("the bytes that came are not those that were sent")


def parse_amount(text: str) -> int:
    """Bytes of "200M". Raises UsageError."""
    match = re.fullmatch(r"(\d{1,12})([kMG]?)B?", text.strip())
    count = int(match[1]) * UNITS[match[2]] if match else 0
    if not 0 < count <= BYTES_MAX:
        raise UsageError(f"--bytes {text}: give 1 to {BYTES_MAX}, such as 500k, 100M or 1G")
    return count


def lines(found: dict[str, Any]) -> list[str]:
    """A result as people read it."""
    rate = found["bytes_per_s"]
    took = f"{size(found['bytes'])} from {found['name']} in {found['seconds']:.2f} s"
    said = [f"{took}: {rate / 1e6:.1f} MB/s ({rate * 8 / 1e6:.0f} Mb/s)"]
    said += [f"from object {used['first']}: {used['path']}" for used in found["paths"]]
    again = f", {found['duplicates']} came twice and were dropped" if found["duplicates"] else ""
    said.append(
        f"{found['objects']} objects, first after {found['first_object_s'] * 1000:.0f} ms, "
        f"longest wait {found['longest_gap_s'] * 1000:.0f} ms{again}"
    )
    said.append(f"SHA-256 {found['sha256']}: {'as sent' if found['intact'] else 'NOT as sent'}")
    if not found["complete"]:
        said.append(f"Not all came: {found['trouble']}.")
    return said
