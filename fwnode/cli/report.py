"""`fwnode report`: reads the database, whether or not the node runs."""

from typing import Annotated, Any

import typer

from fwnode.cli.network import printable
from fwnode.cli.output import Json, print_json, print_table, size
from fwnode.cli.settings import DataDir, data_folder
from fwnode.store import read_usage
from fwnode.transcoding.usage import report as sums

HEADING = ("WHEN", "SENT", "ENGINE", "RENDITION", "MINUTES", "MADE")


def report(
    month: Annotated[bool, typer.Option("--month", help="Sums of months, not of days.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show what the node sent and transcoded, by day or month: minutes by encoder and rendition.

    Days are those of UTC. The last minute of a running node is not in it yet.
    """
    found = sums(read_usage(data_folder(data_dir)), months=month)
    if json:
        print_json({"periods": found})
        return
    if not found:
        typer.echo("Nothing was sent or transcoded yet.")
        return
    print_table(HEADING, [row for period in found for row in rows(period)])


def rows(period: dict[str, Any]) -> list[tuple[str, ...]]:
    """One line for each encoder and rendition, and one for a period without any."""
    made = [
        (printable(one["engine"]), printable(one["rendition"]), f"{one['minutes']:.1f}", size(one["bytes"]))
        for one in period["transcoded"]
    ]
    made = made or [("-", "-", "-", "-")]
    first = (period["period"], size(period["sent_bytes"]))
    return [(*(first if number == 0 else ("", "")), *one) for number, one in enumerate(made)]
