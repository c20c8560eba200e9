"""`fwnode geoip` against a real HTTP server."""

import gzip
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import mmdb
import pytest

from mesh.geo import client
from mesh.geo.client import Source
from mesh.geo.model import CITY, GeoError, Located
from mesh.geo.store import FETCHED, GeoDatabase

DATABASE = mmdb.write({"81.2.69.0/24": mmdb.city(51.5, -0.1, "GB", "London")}, "GeoLite2-City")
ADDRESS = "81.2.69.142"
KEY = "k3y-that-nobody-may-see"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files; /private wants the account, /moved redirects, /short breaks off."""

    files: ClassVar[dict[str, bytes]] = {}
    seen: ClassVar[list[tuple[str, str]]] = []  # path and Authorization

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        self.seen.append((path, self.headers.get("Authorization", "")))
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", f"/city.mmdb.gz?signature={KEY}")
            self.end_headers()
        elif path == "/private" and "Authorization" not in self.headers:
            self.send_error(401)
        elif path == "/short":
            self._answer(DATABASE[:100], len(DATABASE))
        elif path == "/huge":
            self._answer(b"", 10**15)
        elif path in self.files:
            self._answer(self.files[path], len(self.files[path]))
        else:
            self.send_error(429 if path == "/often" else 404)

    def _answer(self, data: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(mode="w:gz", fileobj=out) as made:
        member = tarfile.TarInfo("GeoLite2-City_20251009/GeoLite2-City.mmdb")
        member.size = len(DATABASE)
        made.addfile(member, io.BytesIO(DATABASE))
    return out.getvalue()


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen.clear()
    Handler.files.update(
        {
            "/city.mmdb": DATABASE,
            "/city.mmdb.gz": gzip.compress(DATABASE),
            "/city.tar.gz": archive(),
            "/private": archive(),
            "/page": b"<html>" * 1000,
            "/asn.mmdb": mmdb.write({"1.0.0.0/24": {"autonomous_system_number": 13335}}, "GeoLite2-ASN"),
        }
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def place(folder: Path) -> Located | None:
    database = GeoDatabase(folder)
    assert database.refresh() == []
    return database.lookup(ADDRESS)


@pytest.mark.parametrize("path", ["/city.mmdb", "/city.mmdb.gz", "/city.tar.gz", "/moved"])
def test_every_form_is_fetched(server: str, tmp_path: Path, path: str) -> None:
    progress: list[tuple[int, int]] = []
    facts = client.update(Source(server + path), tmp_path / "geoip", lambda *now: progress.append(now))
    assert facts.path == str(tmp_path / "geoip" / FETCHED) and facts.kind == "GeoLite2-City"
    assert facts.size_bytes == len(DATABASE) and facts.built_unix_s == 1_760_000_000
    assert place(tmp_path / "geoip") == Located(51.5, -0.1, "GB", "London", CITY)
    assert [file.name for file in (tmp_path / "geoip").iterdir()] == [FETCHED]
    assert progress[-1][0] == progress[-1][1] > 0


def test_account_is_sent_once_and_never_said(server: str, tmp_path: Path) -> None:
    client.update(Source(server + "/private", "42", KEY), tmp_path / "geoip")
    assert Handler.seen == [("/private", "Basic NDI6azN5LXRoYXQtbm9ib2R5LW1heS1zZWU=")]
    Handler.seen.clear()
    client.update(Source(server + "/moved", "42", KEY), tmp_path / "geoip")
    assert [bool(account) for _, account in Handler.seen] == [True, False]
    with pytest.raises(GeoError) as refused:
        client.update(Source(f"{server}/gone?key={KEY}", "42", KEY), tmp_path / "geoip")
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/gone", "no such file"),
        ("/private", "not accepted"),
        ("/often", "try again tomorrow"),
        ("/short", "broke off after 100 of"),
        ("/huge", "more than"),
        ("/page", "not a whole MMDB"),
        ("/asn.mmdb", "no places, but GeoLite2-ASN"),
    ],
)
def test_failures_say_why_and_keep_what_there_was(server: str, tmp_path: Path, path: str, says: str) -> None:
    client.update(Source(server + "/city.mmdb"), tmp_path / "geoip")
    with pytest.raises(GeoError, match=says):
        client.update(Source(server + path), tmp_path / "geoip")
    assert place(tmp_path / "geoip") == Located(51.5, -0.1, "GB", "London", CITY)
    assert [file.name for file in (tmp_path / "geoip").iterdir()] == [FETCHED]


def test_unreachable(tmp_path: Path) -> None:
    with pytest.raises(GeoError, match=r"cannot reach http://127\.0\.0\.1:1/x: Connection refused"):
        client.update(Source("http://127.0.0.1:1/x"), tmp_path / "geoip")


def test_folder_that_cannot_be_written(server: str, tmp_path: Path) -> None:
    (tmp_path / "geoip").write_text("a file")
    with pytest.raises(GeoError, match="cannot write to"):
        client.update(Source(server + "/city.mmdb"), tmp_path / "geoip")


@pytest.fixture
def cli(tmp_path: Path) -> Any:
    def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "fwnode", "geoip", *arguments],
            env={"PATH": "/usr/bin", "HOME": str(tmp_path), "FWNODE_DATA_DIR": str(tmp_path / "data")}
            | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_commands(server: str, cli: Any, tmp_path: Path) -> None:
    assert "GB  52.8000,-1.6000  (country; country table)" in cli("lookup", ADDRESS).stdout
    assert not (tmp_path / "data").exists()
    updated = cli("update", "--url", f"{server}/city.tar.gz")
    assert updated.returncode == 0 and updated.stderr == ""
    assert updated.stdout.startswith("GeoLite2-City of 2025-10-09, ")
    assert "London, GB  51.5000,-0.1000  (city; " in cli("lookup", ADDRESS).stdout
    found = json.loads(cli("lookup", ADDRESS, "--json").stdout)
    assert found["place"]["city"] == "London" and found["database"].endswith(FETCHED)
    by_setting = json.loads(cli("update", "--json", FWNODE_GEOIP_URL=f"{server}/city.mmdb").stdout)
    assert by_setting["kind"] == "GeoLite2-City"
    assert "not a public address" in cli("lookup", "10.0.0.1").stdout
    assert json.loads(cli("lookup", "10.0.0.1", "--json").stdout)["place"] is None


def test_mistakes_are_one_line(server: str, cli: Any) -> None:
    for arguments, code, says in [
        (("lookup", "nonsense"), 2, "nonsense is no IPv4 or IPv6 address"),
        (("update",), 2, "geoip.license_key"),
        (("update", "--url", "file:///etc/passwd"), 1, "write https://HOST/PATH"),
        (("update", "--url", f"{server}/gone?key={KEY}"), 1, "/gone: there is no such file"),
    ]:
        ran = cli(*arguments)
        assert ran.returncode == code and says in ran.stderr and ran.stderr.count("\n") == 1, ran.stderr
        assert KEY not in ran.stderr + ran.stdout
