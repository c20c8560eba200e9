"""Reads the settings of this machine: the file in the data folder, the environment, the options."""

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from fwnode import config
from fwnode.config import Config
from fwnode.errors import ConfigError, UsageError

CONFIG_FILE = "fwnode.toml"
CONFIG_FILE_BYTES_MAX = 1_000_000  # a file this long is not a configuration

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. [env: FWNODE_CONFIG; default: fwnode.toml in the data folder, if there]",
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", metavar="DIR", help="The node's data folder. [env: FWNODE_DATA_DIR]"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting by its key in the file; repeatable."),
]


def load(
    config_file: Path | None, options: Mapping[str, object | None], assignments: Sequence[str] | None = None
) -> Config:
    """The settings in force here. Options that are None were not given. Raises ConfigError."""
    given = {key: value for key, value in options.items() if value is not None}
    given.update(_assigned(assignments or ()))
    if isinstance(given.get("data_dir"), str):
        given["data_dir"] = absolute(str(given["data_dir"]))
    environment = dict(os.environ)
    if "FWNODE_DATA_DIR" in environment:
        environment["FWNODE_DATA_DIR"] = absolute(environment["FWNODE_DATA_DIR"])
    defaults = {"name": _host_name(), "data_dir": default_data_dir()}
    folder = str(given.get("data_dir") or environment.get("FWNODE_DATA_DIR") or defaults["data_dir"])
    path = config_path(config_file, folder)
    text = _read(path, required=config_file is not None or "FWNODE_CONFIG" in environment)
    return config.load(defaults, str(path) if text is not None else "", text or "", environment, given)


def config_path(config_file: Path | None, data_dir: str) -> Path:
    """Where the settings file is, whether or not there is one."""
    named = config_file or os.environ.get("FWNODE_CONFIG")
    return Path(absolute(str(named))) if named else Path(data_dir, CONFIG_FILE)


def data_folder(data_dir: str | None) -> Path:
    """The data folder that the other commands look into: `--data-dir`, FWNODE_DATA_DIR or the default.

    They do not read the settings file: a mistake in it must not stop `fwnode status`.
    """
    return Path(absolute(data_dir or os.environ.get("FWNODE_DATA_DIR") or default_data_dir()))


def absolute(path: str) -> str:
    """A path as given on a command line, `~` included, as an absolute one."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - Path keeps "..", expands no "~" here


def default_data_dir() -> str:
    """The platform's folder for a user's data (XDG base directory specification; macOS's own)."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where there is no home
    if sys.platform == "darwin":
        return f"{home}/Library/Application Support/fwnode"
    base = os.environ.get("XDG_DATA_HOME", "")
    return f"{base if base.startswith('/') else home + '/.local/share'}/fwnode"


def _assigned(assignments: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write KEY=VALUE, as in --set hls.part_s=0.3")
        given[key.strip()] = value.strip()
    return given


def _read(path: Path, *, required: bool) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_FILE_BYTES_MAX + 1)
        if len(data) > CONFIG_FILE_BYTES_MAX:
            raise ConfigError(f"{path}: longer than {CONFIG_FILE_BYTES_MAX} bytes: not a settings file")
        return data.decode()
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{path}: no such settings file") from None
        return None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _host_name() -> str:
    name = socket.gethostname().partition(".")[0]
    return name if name and name.isprintable() else "node"
