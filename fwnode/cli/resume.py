"""`fwnode resume`."""

import typer

from fwnode.cli import control
from fwnode.cli.output import Json, print_json
from fwnode.cli.settings import DataDir


def resume(data_dir: DataDir = None, admin: control.Admin = None, json: Json = False) -> None:
    """End `fwnode drain` and `fwnode pause`."""
    promise = control.find(data_dir, admin).request("POST", "/promise/resume")
    if json:
        print_json(promise)
    elif promise["state"] == "open":
        typer.echo("New viewers, publishers and nodes are let in again.")
    else:
        typer.echo(f"Resumed, but {promise['reason']}.")
