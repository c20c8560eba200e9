"""`fwnode leave`."""

from typing import TYPE_CHECKING

import typer

from fwnode.cli import control
from fwnode.cli.network import Yes, ask, confirm
from fwnode.cli.output import Json, print_json
from fwnode.cli.settings import DataDir

if TYPE_CHECKING:
    from fwnode.network import Network

QUESTION = "Leave the network? To come back this node needs a new invite."


def leave(
    yes: Yes = False, data_dir: DataDir = None, admin: control.Admin = None, json: Json = False
) -> None:
    """Leave the network; the node goes on alone."""
    confirm(QUESTION, yes=yes)
    ask("DELETE", "/network", None, data_dir, admin, _offline, makes=False)
    if json:
        print_json({"left": True})
    else:
        typer.echo("This node is in no network now.")


def _offline(network: "Network") -> None:
    network.leave().carry_out()
