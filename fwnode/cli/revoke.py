"""`fwnode revoke`."""

from typing import Annotated

import typer

from fwnode.cli import control
from fwnode.cli.network import Yes, ask, confirm, printable
from fwnode.cli.output import Json, print_json
from fwnode.cli.settings import DataDir


def revoke(
    node: Annotated[
        str,
        typer.Argument(metavar="NODE", help="Its name when no other has it, or 8 digits or more of its key."),
    ],
    yes: Yes = False,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Expel a node from the network for ever; only on the owner's node."""
    from fwnode.admin import views

    confirm(f"Expel {printable(node)} for ever? It can only come back as a new node.", yes=yes)
    answer, _ = ask(
        "POST",
        "/network/revocations",
        {"node": node},
        data_dir,
        admin,
        lambda network: views.revoked_view(network.revoke(node).carry_out()),
        makes=False,
    )
    if json:
        print_json(answer)
        return
    called = f"{answer['name']!r} ({answer['node'][:8]})" if answer["name"] else answer["node"][:8]
    typer.echo(f"{called} is no member any more.")
    if answer["note"]:
        typer.echo(f"Note: {answer['note']}.", err=True)
