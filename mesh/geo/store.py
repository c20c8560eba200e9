"""The databases of places on disk: opened, reopened when a file changes, asked in order.

The order: the operator's own MMDB file, the one that `fwnode geoip update` fetched, the country table that
comes with the program. A file that cannot be used is said and passed over. `refresh` blocks on the disk: from
trio, call it in a thread; `lookup` takes microseconds and may run meanwhile.
"""

import contextlib
import importlib
import importlib.util
import ipaddress
import os
import secrets
import shutil
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesh.geo.model import CONFIGURED, DatabaseFacts, GeoError, Located
from mesh.geo.record import country_place, located_untrusted

if TYPE_CHECKING:
    import maxminddb

GEOIP_FOLDER = "geoip"  # in the data folder
FETCHED = "city.mmdb"
PRIVATE_FOLDER = 0o700
PART = ".part"  # ends the names of files that are being made
REMEMBERED_MAX = 4096  # answers kept: some 1 MB; the viewers and peers of a busy node
TEXT_CHARACTERS_MAX = 64  # the longest textual IPv6 address with a zone has 45 and the zone's name
COUNTRY_TABLE = "country table"
PROBED_RECORDS_MAX = 10_000  # a database of places has one long before
DATABASE_BYTES_MAX = 2_000_000_000  # commercial city databases have less than half of it

# What maxminddb's readers raise on a damaged file: the C one InvalidDatabaseError (a RuntimeError), the
# Python one, used where there is no wheel, whatever its arithmetic comes to.
_DAMAGE = (RuntimeError, ValueError, LookupError, ArithmeticError, TypeError, MemoryError, struct.error)
_Stamp = tuple[int, int, int]


class _File:
    """One MMDB file and the reader of what it held when it was last good."""

    def __init__(self, path: Path, what: str, *, expected: bool, private_copy: Path | None) -> None:
        self.path = path
        self.reader: maxminddb.Reader | None = None
        self.only_ipv4 = False
        self.facts: DatabaseFacts | None = None
        self.fault = ""  # of a lookup: said by the next refresh
        self._what = what
        self._expected = expected
        self._private_copy = private_copy
        self._seen: _Stamp | str | None = "never"

    def refresh(self) -> str:
        """Read it again if it changed. What there is to say about it, or ""."""
        fault, self.fault = self.fault, ""
        if fault:
            self.reader = self.facts = None
            return f"{self._what} {self.path} is damaged and no longer used: {fault}"
        try:
            stamp = _stamp(self.path)
        except OSError as error:
            return self._failed(str(error), error.strerror or str(error))
        if stamp == self._seen:
            return ""
        if stamp is None:
            had, self.reader, self.facts, self._seen = self.reader, None, None, None
            if had is not None:
                return f"{self._what} {self.path} is gone"
            return f"{self._what} {self.path} does not exist; it is passed over" if self._expected else ""
        try:
            reader, facts = open_database(self.path, self._private_copy)
        except GeoError as error:
            return self._failed(stamp, str(error))
        self.only_ipv4 = reader.metadata().ip_version == 4
        self.reader, self.facts, self._seen = reader, facts, stamp
        return ""

    def _failed(self, seen: "_Stamp | str", why: str) -> str:
        """Said once for each state of the file. What was read before goes on being used."""
        if seen == self._seen:
            return ""
        self._seen = seen
        after = "the one read before stays in use" if self.reader else "it is passed over"
        return f"{self._what} {self.path} cannot be used: {why}; {after}"


class GeoDatabase:
    """Addresses to places."""

    def __init__(
        self,
        folder: Path,
        own_file: str = "",
        place: tuple[float, float] | None = None,
        *,
        private_copy: bool = True,
    ) -> None:
        """Opens nothing yet: call `refresh`.

        `folder` is `<data>/geoip`. `own_file` is the operator's database or "". `place` is this node's
        configured latitude and longitude. With `private_copy` the operator's file is read from a copy,
        so that somebody who writes over it in place does not pull mapped memory from under the process.
        """
        self._files: list[_File] = []
        if own_file:
            copy = folder if private_copy else None
            self._files.append(_File(Path(own_file), "the place database", expected=True, private_copy=copy))
        fetched = _File(folder / FETCHED, "the fetched place database", expected=False, private_copy=None)
        self._files.append(fetched)  # not there before the first `fwnode geoip update`
        self._place = place
        self._table_missing = importlib.util.find_spec("iptocc") is None
        self._remembered: dict[str, tuple[Located | None, str]] = {}

    def refresh(self) -> list[str]:
        """Open what is new or changed since the last call; every minute is often enough.

        Returns sentences for the log: each fault once.
        """
        said = [text for file in self._files if (text := file.refresh())]
        if self._table_missing:
            self._table_missing = False
            said.append("the country table (package iptocc) is not installed: places need a database")
        self._remembered = {}
        return said

    def lookup(self, address: str) -> Located | None:
        """Where a public address is used; None for a private one, an unknown one or text that is none."""
        return self.find(address)[0]

    def find(self, address: str) -> tuple[Located | None, str]:
        """As `lookup`, with the database that knew: its path, or "country table", or ""."""
        remembered = self._remembered
        found = remembered.get(address)
        if found is None:
            found = self._find(address)
            if len(remembered) >= REMEMBERED_MAX:
                remembered.clear()
            if len(address) <= TEXT_CHARACTERS_MAX:
                remembered[address] = found
        return found

    def own_place(self, addresses: Iterable[str]) -> Located | None:
        """Where this node is: as configured, or else where the first of its public addresses is."""
        if self._place is not None:
            near = next(filter(None, map(self.lookup, addresses)), None)
            return Located(*self._place, near.country if near else "", "", CONFIGURED)
        return next(filter(None, map(self.lookup, addresses)), None)

    def databases(self) -> list[DatabaseFacts]:
        """The files in use, first asked first."""
        return [file.facts for file in self._files if file.facts is not None]

    def _find(self, text: str) -> tuple[Located | None, str]:
        address = public_address(text)
        if address is None:
            return None, ""
        for file in self._files:
            if file.reader is not None and (place := _place_in(file, address)) is not None:
                return place, str(file.path)
        country_code = _country_table()
        if country_code is not None:
            code = country_code(str(address))
            if isinstance(code, str) and (place := country_place(code)) is not None:
                return place, COUNTRY_TABLE
        return None, ""


def public_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A numeric address that has a place: not private, link-local, reserved or multicast."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # what a socket of both families shows of an IPv4 peer
    return address if address.is_global and not address.is_multicast else None


def open_database(path: Path, copy_in: Path | None = None) -> "tuple[maxminddb.Reader, DatabaseFacts]":
    """Open an MMDB file and make sure that it holds places. Raises GeoError with the reason only.

    With `copy_in` what is mapped is a copy, made in that folder and unlinked at once.
    """
    try:
        size = path.stat().st_size
        if size > DATABASE_BYTES_MAX:
            raise GeoError(f"it has more than {DATABASE_BYTES_MAX} bytes")
        with _mappable(path, copy_in) as mappable:
            module = importlib.import_module("maxminddb")  # most nodes have no database
            reader: maxminddb.Reader = module.open_database(mappable)
        metadata = reader.metadata()
        if not _holds_places(reader):
            raise GeoError(f"it holds no places, but {metadata.database_type or 'something else'}")
    except OSError as error:
        raise GeoError(error.strerror or str(error)) from None
    except _DAMAGE:
        raise GeoError("it is not a whole MMDB database") from None
    return reader, DatabaseFacts(str(path), metadata.database_type, metadata.build_epoch, size)


@contextlib.contextmanager
def _mappable(path: Path, copy_in: Path | None) -> Any:
    if copy_in is None:
        yield path
        return
    copy_in.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    copy = copy_in / f"own-{secrets.token_hex(8)}{PART}"
    try:
        shutil.copyfile(path, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _holds_places(reader: "maxminddb.Reader") -> bool:
    for count, (_, record) in enumerate(reader):
        if located_untrusted(record) is not None:
            return True
        if count >= PROBED_RECORDS_MAX:
            break
    return False


def _place_in(file: _File, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Located | None:
    reader = file.reader
    if reader is None or (address.version == 6 and file.only_ipv4):
        return None
    try:
        return located_untrusted(reader.get(address))
    except (*_DAMAGE, OSError) as error:
        file.fault = str(error) or type(error).__name__
        file.reader = None
        return None


def _stamp(path: Path) -> _Stamp | None:
    """What changes when a file is replaced or written; None when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - beside os.stat_result's fields
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


@cache
def _country_table() -> Any:
    """iptocc.country_code, loaded by the first who asks; None on a platform that has no wheel of it."""
    try:
        from iptocc import country_code
    except ImportError:
        return None
    return country_code
