"""`fwnode geoip`: fetch the database of places, and ask what the node would know of an address."""

import ipaddress
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fwnode.cli import settings
from fwnode.cli.output import Json, print_json, size
from fwnode.cli.settings import ConfigFile, DataDir
from fwnode.config import Config
from fwnode.errors import FwnodeError, UsageError

REDRAW_S = 0.1

app = typer.Typer(
    help="Fetch a database of places; look an address up.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("update")
def update(
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where to fetch an MMDB from (.mmdb, .mmdb.gz, .tar.gz). "
            "[default: geoip.url, or MaxMind with geoip.account_id and geoip.license_key]",
        ),
    ] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Fetch a database of places; a running node takes it up by itself."""
    # Here and not above: they cost every other command 40 ms.
    from mesh.geo.client import MAXMIND_URL, Source
    from mesh.geo.client import update as fetch
    from mesh.geo.model import GeoError
    from mesh.geo.store import GEOIP_FOLDER

    config = _settings(config_file, data_dir)
    given = url or config.geoip.url
    if given:
        source = Source(given)
    elif config.geoip.account_id and config.geoip.license_key:
        source = Source(MAXMIND_URL, config.geoip.account_id, config.geoip.license_key)
    else:
        raise UsageError(
            "where from? Set geoip.account_id and geoip.license_key (a MaxMind account is free; the "
            "variables are FWNODE_GEOIP_ACCOUNT_ID and FWNODE_GEOIP_LICENSE_KEY), or give --url"
        )
    progress = _Progress()
    try:
        facts = fetch(source, Path(config.data_dir, GEOIP_FOLDER), progress.show)
    except GeoError as error:
        raise FwnodeError(str(error)) from None
    finally:
        progress.clear()
    if json:
        print_json(facts)
        return
    built = datetime.fromtimestamp(facts.built_unix_s, UTC).strftime("%Y-%m-%d")
    typer.echo(f"{facts.kind} of {built}, {size(facts.size_bytes)}, is in {facts.path}")


@app.command("lookup")
def lookup(
    address: Annotated[str, typer.Argument(metavar="ADDR", help="An IPv4 or IPv6 address.")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show the place that this node has for an address, and which database knows it."""
    from mesh.geo.store import GEOIP_FOLDER, GeoDatabase, public_address

    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise UsageError(f"{address} is no IPv4 or IPv6 address") from None
    config = _settings(config_file, data_dir)
    folder = Path(config.data_dir, GEOIP_FOLDER)
    database = GeoDatabase(folder, config.geoip.database, private_copy=False)
    for text in database.refresh():
        typer.echo(text, err=True)
    place, known_by = database.find(address)
    if json:
        print_json({"address": address, "place": place, "database": known_by})
    elif place is not None:
        name = ", ".join(part for part in (place.city, place.country) if part) or "place without a name"
        typer.echo(f"{name}  {place.latitude:.4f},{place.longitude:.4f}  ({place.source}; {known_by})")
    elif public_address(address) is None:
        typer.echo(f"{address} is not a public address: it has no place")
    else:
        typer.echo(f"no database knows where {address} is")


def _settings(config_file: Path | None, data_dir: str | None) -> Config:
    return settings.load(config_file, {"data_dir": data_dir})


class _Progress:
    """How far a download is, on one line of a terminal; nothing elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next_s = 0.0
        self._drawn = False

    def show(self, received: int, expected: int) -> None:
        now = time.monotonic()
        if self._terminal and now >= self._next_s:
            self._next_s = now + REDRAW_S
            self._drawn = True
            of = f" of {size(expected)} ({100 * received // expected} %)" if expected else ""
            typer.echo(f"\r\x1b[Kfetching: {size(received)}{of}", nl=False, err=True)

    def clear(self) -> None:
        if self._drawn:
            typer.echo("\r\x1b[K", nl=False, err=True)
