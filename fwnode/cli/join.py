"""`fwnode join`."""

from typing import Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.network import ask, parse_roles, printable, read_line
from fwnode.cli.output import Json, print_json
from fwnode.cli.settings import DataDir


def join(
    line: Annotated[
        str, typer.Argument(metavar="LINE", help="What `fwnode invite` printed; - reads standard input.")
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What others call this node. [default: its name]"),
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="What to be: origin, edge, relay, transcode, inviter; repeatable. "
            "[default: all that the invite gives]",
        ),
    ] = None,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Join a network with an invite, whether or not the node runs."""
    from fwnode.admin import views

    roles = parse_roles(role)
    text = read_line(line)
    body = {"invite": text, "name": name, "roles": roles}
    answer, running = ask(
        "POST",
        "/network/join",
        {key: value for key, value in body.items() if value is not None},
        data_dir,
        admin,
        lambda network: views.joined_view(
            network.join(text, name=name, roles=frozenset(roles) if roles else None).carry_out()
        ),
    )
    if json:
        print_json(answer | {"running": running})
        return
    for note in answer["notes"]:
        typer.echo(f"Note: {printable(note)}.", err=True)
    typer.echo(_about(answer, running))


def _about(answer: dict[str, Any], running: bool) -> str:
    then = (
        "It is connecting now: `fwnode peers` shows who is there."
        if running
        else "It connects when `fwnode run` starts."
    )
    roles = ", ".join(answer["roles"]) or "no role"
    return f"This node is {answer['name']!r} in network {answer['network'][:8]}: {roles}. {then}"
