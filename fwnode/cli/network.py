"""What the commands about networks share: through the running node, or on its folder when none runs."""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fwnode import __version__
from fwnode.address import parse_address
from fwnode.cli import control, settings
from fwnode.config import Config
from fwnode.errors import NodeError, StoreError, UsageError
from fwnode.setting import OFF, split_addresses
from fwnode.store import DataFolder
from mesh.model import Role

if TYPE_CHECKING:
    from fwnode.network import Network

LINE_FROM_STDIN = "-"
LINE_BYTES_MAX = 100_000  # far above the longest line; more is no line

T = TypeVar("T")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def ask(
    method: str,
    path: str,
    body: object,
    data_dir: str | None,
    admin: str | None,
    offline: "Callable[[Network], object]",
    *,
    makes: bool = True,
) -> tuple[Any, bool]:
    """The running node's answer and True, or what `offline` makes of the folder's network and False.

    `offline` gives what the API would answer. A command that does not make anything makes no data folder
    either. Raises FwnodeError.
    """
    try:
        return control.find(data_dir, admin).request(method, path, body), True
    except control.NotRunning:
        if admin is not None:
            raise
    import msgspec

    folder = settings.data_folder(data_dir)
    if not makes and not folder.exists():
        raise NodeError(f"there is no node in {folder}: give --data-dir")
    # The folder's lock keeps a node from starting meanwhile, as a member of what was before.
    with explained(), _network(folder) as network:
        return msgspec.to_builtins(offline(network)), False


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what the mesh says into the one line and the exit code of a command."""
    from mesh.errors import MeshError, WireError
    from mesh.identity.store import StoreError as IdentityStoreError

    try:
        yield
    except WireError as error:
        raise UsageError(str(error)) from None
    except IdentityStoreError as error:
        raise StoreError(str(error)) from None
    except MeshError as error:
        raise NodeError(str(error)) from None


@contextlib.contextmanager
def _network(folder: Path) -> "Iterator[Network]":
    locked = DataFolder(folder)
    locked.lock()
    try:
        yield open_network(folder)
    finally:
        locked.unlock()


def open_network(folder: Path) -> "Network":
    """The folder's network; the caller holds the folder's lock. Raises mesh's StoreError."""
    from fwnode.network import Network
    from mesh.discovery.store import FILE_NAME, PeersFile
    from mesh.identity.store import IdentityStore

    config = settings.load(None, {"data_dir": str(folder)})
    return Network(
        IdentityStore(folder),
        PeersFile(folder / FILE_NAME),
        name=config.name,
        program=f"fwnode {__version__}",
        unix_s=time.time,
        entropy=secrets.token_bytes,
        addresses=lambda: _addresses(config),
    )


def _addresses(config: Config) -> Sequence[str]:
    """Where others will reach this node when it runs with its settings of now."""
    from mesh.discovery.candidates import make_candidates
    from mesh.discovery.probe import own_addresses

    announced = split_addresses(config.announce)
    bound = None if config.mesh == OFF else parse_address(config.mesh)
    if bound is None or not bound.port:
        return announced
    hosts = own_addresses() if bound.wildcard else [bound.host]
    return make_candidates(bound.port, hosts, announced)


def parse_roles(names: Sequence[str] | None) -> list[Role] | None:
    """Roles as options give them, each once; None when none was given. Raises UsageError."""
    try:
        return sorted({Role(name.strip().lower()) for name in names}) if names else None
    except ValueError:
        raise UsageError(f"--role: the roles are {', '.join(Role)}") from None


def read_line(text: str) -> str:
    """A line that was given, or standard input for "-". Raises UsageError."""
    if text != LINE_FROM_STDIN:
        return text
    found = sys.stdin.buffer.read(LINE_BYTES_MAX)
    return found.decode("utf-8", "replace").strip()


def passphrase(*, new: bool) -> str:
    """The owner key's passphrase, from the environment or the terminal; asked twice when new."""
    given = os.environ.get("FWNODE_OWNER_PASSPHRASE")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(
            "a passphrase is needed: run this on a terminal, or set the environment variable "
            "FWNODE_OWNER_PASSPHRASE"
        )
    typed: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return typed


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal; scripts are not asked."""
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True, err=True)


def printable(text: str) -> str:
    """What others chose, without control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)
