"""`fwnode run`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fwnode.cli import settings
from fwnode.cli.settings import ConfigFile, Set
from fwnode.config import SETTINGS

METAVARS = {
    "name": "NAME",
    "data_dir": "DIR",
    "https_cert": "FILE",
    "https_key": "FILE",
    "drain_s": "SECONDS",
    "uplink_mbps": "N",
    "workers": "N",
}


def _option(key: str) -> Any:
    """The option of a setting; its help is the setting's own."""
    setting = SETTINGS[key]
    default = "" if setting.default in (None, "") else f"; default: {_plain(setting.default)}"
    text = f"{setting.detail.help} [env: {setting.variable}{default}]"
    if setting.kind is bool:
        return typer.Option(f"{setting.option}/--no-{setting.option.removeprefix('--')}", help=text)
    return typer.Option(setting.option, metavar=METAVARS.get(key, "ADDR"), help=text)


def _plain(value: object) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )


def run(
    config: ConfigFile = None,
    data_dir: Annotated[str | None, _option("data_dir")] = None,
    name: Annotated[str | None, _option("name")] = None,
    http: Annotated[str | None, _option("http")] = None,
    https: Annotated[str | None, _option("https")] = None,
    https_cert: Annotated[str | None, _option("https_cert")] = None,
    https_key: Annotated[str | None, _option("https_key")] = None,
    rtmp: Annotated[str | None, _option("rtmp")] = None,
    mesh: Annotated[str | None, _option("mesh")] = None,
    seed: Annotated[list[str] | None, _option("seed")] = None,
    admin: Annotated[str | None, _option("admin")] = None,
    uplink_mbps: Annotated[str | None, _option("uplink_mbps")] = None,
    demo: Annotated[bool | None, _option("demo")] = None,
    workers: Annotated[str | None, _option("workers")] = None,
    drain_s: Annotated[str | None, _option("drain_s")] = None,
    assignments: Set = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            "--ready-file",
            metavar="FILE",
            help="Write the bound addresses to FILE as JSON once everything listens.",
        ),
    ] = None,
) -> int:
    """Run the node until SIGTERM or Ctrl-C, which let viewers leave; a second one stops at once."""
    options = {
        "data_dir": data_dir,
        "name": name,
        "http": http,
        "https": https,
        "https_cert": https_cert and settings.absolute(https_cert),
        "https_key": https_key and settings.absolute(https_key),
        "rtmp": rtmp,
        "mesh": mesh,
        "seed": ",".join(seed) if seed else None,
        "admin": admin,
        "uplink_mbps": uplink_mbps,
        "demo": demo,
        "workers": workers,
        "drain_s": drain_s,
    }
    loaded = settings.load(config, options, assignments)
    from fwnode.agent import run_node  # trio and the rest: not before the settings are known to be good

    return run_node(loaded, ready_file)
