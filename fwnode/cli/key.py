"""`fwnode key`: works through the running node, or on the database when no node runs."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fwnode.cli import control, network, settings
from fwnode.cli.network import printable
from fwnode.cli.output import Json, print_json, print_table
from fwnode.cli.settings import DataDir
from fwnode.errors import NodeError, UsageError
from fwnode.store import DATABASE, Database, DataFolder

app = typer.Typer(
    help="Make, list and revoke the stream keys that publishers use.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("new")
def new(
    stream: Annotated[
        str,
        typer.Option(
            "--stream", metavar="PATTERN", help="Streams it may publish: a name, cam-*, or * for all."
        ),
    ] = "*",
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="A note to know it by.")] = "",
    local: Annotated[
        bool,
        typer.Option("--local", help="Good on this node only; without it, on all of its network's origins."),
    ] = False,
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Make a stream key and show it, this once."""
    request = {"stream": stream, "label": label, "local": local}
    answer = _ask("POST", "/keys", request, data_dir, admin)
    if json:
        print_json(answer)
        return
    typer.echo(answer["key"])
    typer.echo(
        f"Key {answer['id']} for {'all streams' if answer['stream'] == '*' else answer['stream']}. "
        "In OBS: Settings, Stream, Stream Key. It is not shown again.",
        err=True,
    )


@app.command("list")
def list_keys(data_dir: DataDir = None, admin: control.Admin = None, json: Json = False) -> None:
    """List the stream keys that are good here; what they look like is not kept.

    Those that other nodes of the network made are listed while this node runs.
    """
    answer = _ask("GET", "/keys", None, data_dir, admin)
    if json:
        print_json(answer)
        return
    rows = [
        (
            key["id"],
            key["stream"],
            key["label"],
            printable(key["node_name"]) + (" only" if key["local"] else ""),
            _day(key["created_unix_s"]),
            _day(key["last_used_unix_s"]),
        )
        for key in answer["keys"]
    ]
    if rows:
        print_table(("ID", "STREAM", "LABEL", "NODE", "MADE", "LAST USED HERE"), rows)
    else:
        typer.echo("No stream keys: `fwnode key new` makes one.")


@app.command("revoke")
def revoke(
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="As `fwnode key list` shows it; of another node's key on the owner's node only.",
        ),
    ],
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Revoke a stream key; who publishes with it now, on any node, is disconnected."""
    _ask("DELETE", control.path_of("keys", key_id), None, data_dir, admin)
    if json:
        print_json({"revoked": key_id})
    else:
        typer.echo(f"Key {key_id} is revoked.")


def _ask(method: str, path: str, body: Any, data_dir: str | None, admin: str | None) -> Any:
    try:
        return control.find(data_dir, admin).request(method, path, body)
    except control.NotRunning:
        if admin is not None:
            raise
    folder = settings.data_folder(data_dir)
    if method == "GET" and not (folder / DATABASE).exists():
        return {"keys": []}  # listing makes no folder
    # The folder's lock keeps a node from starting meanwhile, with the keys of before in its memory.
    with network.explained(), _database(folder) as database:
        return _offline(folder, database, method, path, body)


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[Database]:
    locked = DataFolder(folder)
    locked.lock()
    try:
        database = Database(folder)
        try:
            yield database
        finally:
            database.close()
    finally:
        locked.unlock()


def _offline(folder: Path, database: Database, method: str, path: str, body: Any) -> Any:
    """What the control API would answer; see fwnode.admin.service."""
    import msgspec

    from fwnode.admin.views import key_list, new_key_view

    if method == "GET":
        return msgspec.to_builtins(key_list(database.keyring(), network.open_network(folder)))
    if method == "POST":
        try:
            text, key = database.new_key(body["stream"], body["label"], local=body["local"])
        except ValueError as error:
            raise UsageError(str(error)) from None
        return msgspec.to_builtins(new_key_view(text, key))
    key_id = path.removeprefix("/keys/")
    if not database.delete_key(key_id):
        raise NodeError(
            f"there is no stream key {key_id} of this node: `fwnode key list` shows them; another node's is "
            "revoked there, or on the owner's node while it runs"
        )
    return None


def _day(unix_s: int | None) -> str:
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M") if unix_s else "never"
