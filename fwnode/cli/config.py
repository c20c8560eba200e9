"""`fwnode config`."""

import os
import sys
from typing import Any

import typer

from fwnode.cli import settings
from fwnode.cli.output import Json, print_json, print_table
from fwnode.cli.settings import ConfigFile, DataDir, Set
from fwnode.config import settings_as_toml

app = typer.Typer(
    help="Show and check the settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("show")
def show(
    config: ConfigFile = None, data_dir: DataDir = None, assignments: Set = None, json: Json = False
) -> None:
    """Show every setting in force and where it comes from; secrets are hidden."""
    from fwnode.admin.views import config_view

    view = config_view(settings.load(config, {"data_dir": data_dir}, assignments))
    if json:
        print_json(view)
        return
    rows = [(setting.key, _shown(setting.value, setting.unit), setting.origin) for setting in view.settings]
    print_table(("SETTING", "VALUE", "FROM"), rows)
    for warning in view.warnings:
        typer.echo(f"fwnode: warning: {warning}", err=True)


@app.command("check")
def check(
    config: ConfigFile = None, data_dir: DataDir = None, assignments: Set = None, json: Json = False
) -> None:
    """Check the settings without starting anything; exit code 2 when one cannot be used."""
    loaded = settings.load(config, {"data_dir": data_dir}, assignments)
    if json:
        print_json({"ok": True, "warnings": list(loaded.warnings), "origins": loaded.origins})
        return
    for warning in loaded.warnings:
        typer.echo(f"fwnode: warning: {warning}", err=True)
    typer.echo(f"The settings are good; {len(loaded.origins)} of them are not defaults.")


@app.command("path")
def path(config: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Show where the settings file is looked for."""
    folder = settings.data_folder(data_dir)
    found = settings.config_path(config, str(folder))
    if json:
        print_json({"config": str(found), "exists": found.exists(), "data_dir": str(folder)})
    else:
        typer.echo(f"{found}{'' if found.exists() else ' (not there)'}")


@app.command("template")
def template() -> None:
    """Print a settings file with every setting, its meaning, range and default, all commented out."""
    typer.echo(settings_as_toml(), nl=False)


@app.command("password")
def password(json: Json = False) -> None:
    """Ask for the admin password (or read a line of standard input); print the line for the settings file."""
    from fwnode.password import SALT_BYTES, hash_password

    if sys.stdin.isatty():
        text = typer.prompt("Admin password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        text = sys.stdin.readline().rstrip("\n")
    if not text:
        raise typer.BadParameter("the password is empty")
    encoded = hash_password(text, os.urandom(SALT_BYTES))
    if json:
        print_json({"admin_password_hash": encoded})
    else:
        typer.echo(f'admin_password_hash = "{encoded}"')


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()
