"""`fwnode drain`."""

import sys
import time
from typing import Annotated, Any

import typer

from fwnode.cli import control
from fwnode.cli.output import Json, print_json
from fwnode.cli.promise import For, left, parse_span
from fwnode.cli.settings import DataDir
from fwnode.errors import NodeError, UsageError

ROLES = ("viewers", "publishers", "edges")
ALL = "all"
LOOK_S = 1.0  # between looks at who is left


def drain(
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="WHO", help="viewers, publishers, edges or all; repeatable."),
    ] = None,
    span: For = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Show who is left, and return when nobody is; Ctrl-C leaves it drained."),
    ] = False,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Let nobody new in and have who is here go elsewhere, until `fwnode resume`; restarts included."""
    roles = wanted_roles(role or [ALL])
    running = control.find(data_dir, admin)
    promise = running.request("POST", "/promise/drain", {"roles": roles, "for_s": parse_span(span)})
    if wait:
        promise = _wait(running, promise, roles, shown=not json)
    if json:
        print_json(promise)
    else:
        typer.echo(f"Drained: {', '.join(roles)}. Still here: {left(promise, roles)}.")


def wanted_roles(given: list[str]) -> list[str]:
    """The roles that were named, in one order. Raises UsageError."""
    for role in given:
        if role not in (*ROLES, ALL):
            raise UsageError(f"--role {role}: give viewers, publishers, edges or all")
    return [role for role in ROLES if role in given or ALL in given]


def _wait(
    running: control.Control, promise: dict[str, Any], roles: list[str], *, shown: bool
) -> dict[str, Any]:
    """Until nobody is left. Raises NodeError when the drain ended before."""
    said = ""
    while any(promise[role] for role in roles):
        if not all(role in promise["drain"] for role in roles):
            raise NodeError(f"the drain was ended while there were {left(promise, roles)} left")
        if shown and (now := left(promise, roles)) != said:
            said = now
            typer.echo(f"waiting for {now}")
            sys.stdout.flush()
        time.sleep(LOOK_S)
        promise = running.get("/promise")
    return promise
