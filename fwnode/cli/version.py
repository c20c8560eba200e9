"""`fwnode version`."""

import platform

import typer

from fwnode import __version__
from fwnode.cli.output import Json, print_json


def version(json: Json = False) -> None:
    """Show the version of fwnode and of what it runs on."""
    versions = {"version": __version__, "python": platform.python_version(), "system": platform.platform()}
    if json:
        print_json(versions)
    else:
        typer.echo(f"fwnode {__version__} (Python {versions['python']}, {versions['system']})")
