"""`fwnode key`: works through the running node, or on the database when no node runs."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fwnode.cli import control, settings
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
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Make a stream key and show it, this once."""
    request = {"stream": stream, "label": label}
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
    """List the stream keys; what they look like is not kept."""
    answer = _ask("GET", "/keys", None, data_dir, admin)
    if json:
        print_json(answer)
        return
    rows = [
        (key["id"], key["stream"], key["label"], _day(key["created_unix_s"]), _day(key["last_used_unix_s"]))
        for key in answer["keys"]
    ]
    if rows:
        print_table(("ID", "STREAM", "LABEL", "MADE", "LAST USED"), rows)
    else:
        typer.echo("No stream keys: `fwnode key new` makes one.")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `fwnode key list` shows it.")],
    data_dir: DataDir = None,
    admin: control.Admin = None,
    json: Json = False,
) -> None:
    """Revoke a stream key; who publishes with it now is disconnected."""
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
    with _database(folder) as database:
        return _offline(database, method, path, body)


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


def _offline(database: Database, method: str, path: str, body: Any) -> Any:
    """What the control API would answer; see fwnode.admin.service."""
    import msgspec

    from fwnode.admin.views import KeyList, NewKey, key_view

    if method == "GET":
        return msgspec.to_builtins(KeyList([key_view(key) for key in database.keyring().all()]))
    if method == "POST":
        try:
            text, key = database.new_key(body["stream"], body["label"])
        except ValueError as error:
            raise UsageError(str(error)) from None
        return msgspec.to_builtins(NewKey(text, key.id, key.pattern, key.label))
    key_id = path.removeprefix("/keys/")
    if not database.delete_key(key_id):
        raise NodeError(f"there is no stream key {key_id}: `fwnode key list` shows them")
    return None


def _day(unix_s: int | None) -> str:
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M") if unix_s else "never"
