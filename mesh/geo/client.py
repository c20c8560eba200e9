"""Fetches a database of places over HTTP(S), verifies it and puts it in its place. Blocks; for a command.

What is served may be an MMDB file, one that is gzipped, or a tar (gzipped or not) with one inside, as MaxMind
and DB-IP serve them. A key goes only to the host that it is for, never along a redirection, and never into a
message: URLs are shown without user, password and query.
"""

import base64
import contextlib
import gzip
import http.client
import os
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import msgspec

from mesh.geo.model import DatabaseFacts, GeoError
from mesh.geo.store import DATABASE_BYTES_MAX, FETCHED, PART, PRIVATE_FOLDER, open_database

# https://dev.maxmind.com/geoip/updating-databases: Basic authentication, redirects to a storage host.
MAXMIND_URL = "https://download.maxmind.com/geoip/databases/GeoLite2-City/download?suffix=tar.gz"
DOWNLOAD_BYTES_MAX = DATABASE_BYTES_MAX  # no compressed one is longer than what it holds may be
SILENCE_S = 30.0  # a server that sends nothing for this long is given up
CHUNK_BYTES = 256 * 1024
LENGTH_DIGITS_MAX = 20  # of a Content-Length that is one
STALE_PART_S = 86_400.0  # a part this old belongs to a command that died
GZIP_MAGIC = b"\x1f\x8b"
TAR_MAGIC = (257, b"ustar")  # POSIX.1-1988 header
LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))

Progress = Callable[[int, int], None]
"""(bytes received, bytes expected or 0 when the server does not say)."""


class Source(msgspec.Struct, frozen=True):
    """Where to fetch from. With an account the request carries it and the key (HTTP Basic)."""

    url: str
    account_id: str = ""
    license_key: str = ""

    def __repr__(self) -> str:
        return f"Source({shown(self.url)})"  # in no traceback is there a key


def shown(url: str) -> str:
    """A URL as it may be printed: user, password, query and fragment can hold keys."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, _host(parts), parts.path, "", ""))
    except ValueError:
        return "that URL"


def update(source: Source, folder: Path, progress: Progress | None = None) -> DatabaseFacts:
    """Fetch, verify by opening, and replace `<folder>/city.mmdb` at one stroke.

    A running node notices by itself. Raises GeoError; the database of before is then still in place.
    """
    where = shown(source.url)
    request = _request(source)
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        _remove_stale(folder)
        with tempfile.TemporaryFile(dir=folder) as download, _part(folder) as (part, path):
            _download(request, where, download, progress)
            _unpack(download, where, part)
            try:
                facts = open_database(path)[1]
            except GeoError as error:
                raise GeoError(f"what {where} serves cannot be used: {error}") from None
            part.flush()
            os.fsync(part.fileno())
            os.replace(path, folder / FETCHED)  # noqa: PTH105 - beside os.fsync
    except OSError as error:
        raise GeoError(f"cannot write to {folder}: {error.strerror or error}") from None
    return msgspec.structs.replace(facts, path=str(folder / FETCHED))


class _SameOrSafer(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from https to anything less. The account is never taken along."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            fp.close()
            raise GeoError(f"{shown(req.full_url)} redirects to {shown(newurl)}, without TLS: refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(source: Source) -> urllib.request.Request:
    try:
        parts = urlsplit(source.url)
        host = _host(parts)
    except ValueError:
        raise GeoError("that is no URL: write https://HOST/PATH") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise GeoError(f"cannot fetch from {shown(source.url)}: write https://HOST/PATH")
    user, password = source.account_id, source.license_key
    if not user and parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
    if user and parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise GeoError(f"{shown(source.url)} would carry the key readable for all: use https")
    url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "fwnode", "Accept": "*/*"})  # noqa: S310 - scheme checked
    except ValueError:
        raise GeoError(f"{shown(source.url)} is no URL that can be fetched") from None
    if user:
        account = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {account}")
    return request


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port is None else f"{host}:{parts.port}"


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """The network's errors in words. None of them holds the request's headers."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            raise GeoError(f"{where}: {_status(error.code)}") from None
    except urllib.error.URLError as error:
        reason = error.reason
        text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        raise GeoError(f"cannot reach {where}: {text}") from None
    except TimeoutError:
        raise GeoError(f"{where} sent nothing for {SILENCE_S:.0f} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise GeoError(f"{where} broke off: {type(error).__name__}") from None


def _status(code: int) -> str:
    known = {
        401: "the account and licence key were not accepted (401)",
        403: "this account may not have that database (403)",
        404: "there is no such file (404)",
        429: "too many downloads today; try again tomorrow (429)",
    }
    return known.get(code, f"the server answered {code}")


def _download(request: Any, where: str, to: IO[bytes], progress: Progress | None) -> None:
    opener = urllib.request.build_opener(_SameOrSafer)
    with contextlib.ExitStack() as stack:
        with _explained(where):
            answer = stack.enter_context(opener.open(request, timeout=SILENCE_S))
        expected = _length(answer.headers.get("Content-Length", ""))
        received = 0
        while True:
            if max(expected, received) > DOWNLOAD_BYTES_MAX:
                raise GeoError(f"{where} serves more than {DOWNLOAD_BYTES_MAX} bytes: refused")
            if progress is not None:
                progress(received, expected)
            with _explained(where):
                data = answer.read1(CHUNK_BYTES)
            if not data:
                break
            to.write(data)
            received += len(data)
    if expected and received != expected:
        raise GeoError(f"{where} broke off after {received} of {expected} bytes")


def _length(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < LENGTH_DIGITS_MAX else 0


class _Bounded:
    """Reads a decompressed stream, but not without end: a few kB of gzip can hold gigabytes."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._left = DATABASE_BYTES_MAX

    def read(self, size: int) -> bytes:
        data = self._raw.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise GeoError(f"it unpacks to more than {DATABASE_BYTES_MAX} bytes")
        return data


def _unpack(download: IO[bytes], where: str, part: IO[bytes]) -> None:
    """The MMDB file that was downloaded, out of whatever is around it."""
    try:
        with contextlib.ExitStack() as stack:
            stream: Any = download
            if _starts(stream, 0, GZIP_MAGIC):
                stream = stack.enter_context(gzip.GzipFile(fileobj=download))
            is_tar = _starts(stream, *TAR_MAGIC)
            bounded = _Bounded(stream)
            if not is_tar:
                _copy(bounded, part)
                return
            archive = stack.enter_context(tarfile.open(mode="r|", fileobj=bounded))  # type: ignore[call-overload]  # reading a stream needs only `read`
            for member in archive:
                if member.isfile() and member.name.endswith(".mmdb"):
                    _copy(archive.extractfile(member), part)
                    return
        raise GeoError("the archive holds no .mmdb file")
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError):
        raise GeoError(f"what {where} serves is damaged: it cannot be unpacked") from None
    except GeoError as error:
        raise GeoError(f"what {where} serves cannot be used: {error}") from None


def _starts(stream: Any, at: int, magic: bytes) -> bool:
    stream.seek(0)
    head: bytes = stream.read(at + len(magic))
    stream.seek(0)
    return head[at:] == magic


def _copy(source: Any, part: IO[bytes]) -> None:
    copied = 0  # bounded here too: a sparse member of a tar is long without being in the stream
    while data := source.read(CHUNK_BYTES):
        copied += len(data)
        if copied > DATABASE_BYTES_MAX:
            raise GeoError(f"it unpacks to more than {DATABASE_BYTES_MAX} bytes")
        part.write(data)
    part.flush()


@contextlib.contextmanager
def _part(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A file of its own that is gone afterwards, unless it was renamed."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="fetch-", suffix=PART, delete=False) as file:
        try:
            yield file.file, Path(file.name)
        finally:
            Path(file.name).unlink(missing_ok=True)


def _remove_stale(folder: Path) -> None:
    for left in folder.glob(f"*{PART}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_PART_S:
                left.unlink()
