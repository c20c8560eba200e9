"""`fwnode pause`."""

import typer

from fwnode.cli import control
from fwnode.cli.output import Json, print_json
from fwnode.cli.promise import For, parse_span
from fwnode.cli.settings import DataDir


def pause(
    span: For = None, data_dir: DataDir = None, admin: control.Admin = None, json: Json = False
) -> None:
    """Let no new viewers and nodes in, until `fwnode resume`; restarts included. Who is here stays."""
    running = control.find(data_dir, admin)
    promise = running.request("POST", "/promise/pause", {"for_s": parse_span(span)})
    if json:
        print_json(promise)
    else:
        typer.echo(f"Paused. Here and staying: {promise['viewers']} viewers, {promise['edges']} edges.")
