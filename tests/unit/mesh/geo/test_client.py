"""What is fetched, unpacked, refused and said; against a real server in tests/interop/test_geoip.py."""

import gzip
import io
import tarfile
from pathlib import Path

import mmdb
import pytest

from mesh.geo import client
from mesh.geo.client import Source, shown
from mesh.geo.model import GeoError

DATABASE = mmdb.write({"81.2.69.0/24": mmdb.city(51.5, -0.1, "GB", "London")})
WHERE = "https://host/file"


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(mode="w", fileobj=out) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


MAXMIND = tar({"GeoLite2-City_20251001/README.txt": b"x" * 5000, "GeoLite2-City_20251001/G.mmdb": DATABASE})


def unpacked(data: bytes) -> bytes:
    part = io.BytesIO()
    client._unpack(io.BytesIO(data), WHERE, part)
    return part.getvalue()


@pytest.mark.parametrize("data", [DATABASE, gzip.compress(DATABASE), MAXMIND, gzip.compress(MAXMIND)])
def test_every_wrapping(data: bytes) -> None:
    assert unpacked(data) == DATABASE


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (gzip.compress(DATABASE)[:-20], "damaged"),
        (gzip.compress(DATABASE)[:30] + b"\xff" * 50, "damaged"),
        (gzip.compress(MAXMIND)[:-20], "damaged"),
        (MAXMIND[:6500], "damaged"),  # in the middle of the database
        (tar({"README": b""}), "holds no .mmdb"),
    ],
    ids=["cut", "garbage", "a cut archive", "cut inside", "another file"],
)
def test_damage(data: bytes, says: str) -> None:
    with pytest.raises(GeoError, match=says):
        unpacked(data)


@pytest.mark.parametrize(
    "wrapped", [gzip.compress(bytes(100_000)), gzip.compress(tar({"a": bytes(100_000)}))]
)
def test_bombs_are_bounded(wrapped: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "DATABASE_BYTES_MAX", 50_000)
    with pytest.raises(GeoError, match="unpacks to more than 50000 bytes"):
        unpacked(wrapped)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://user:secret@host:8443/a/b?token=secret#secret", "https://host:8443/a/b"),
        ("http://[::1]:80/x?secret", "http://[::1]:80/x"),
        ("https://[secret", "that URL"),
        ("https://host:secret/x", "that URL"),
    ],
)
def test_shown_urls_hold_no_key(url: str, says: str) -> None:
    assert shown(url) == says
    assert "secret" not in repr(Source(url, "1", "secret"))


@pytest.mark.parametrize(
    "source",
    [
        Source("file:///etc/passwd"),
        Source("ftp://host/secret?secret"),
        Source("nonsense"),
        Source(""),
        Source("https://"),
        Source("https://host:secret/"),
        Source("http://far.example/x", "1", "secret"),
        Source("http://1:secret@far.example/x"),
    ],
)
def test_refused_before_anything_is_sent(source: Source, tmp_path: Path) -> None:
    with pytest.raises(GeoError) as refused:
        client.update(source, tmp_path / "geoip")
    assert "secret" not in str(refused.value).replace("/secret", "")
    assert not (tmp_path / "geoip").exists()


def test_account_goes_along_no_redirection() -> None:
    request = client._request(Source("https://host/x?suffix=tar.gz", "1", "secret"))
    assert request.get_header("Authorization") == "Basic MTpzZWNyZXQ="
    moved = client._SameOrSafer().redirect_request(request, None, 302, "", {}, "https://other/y")
    assert moved.get_header("Authorization") is None
    assert client._request(Source("https://1:secret@host/x")).full_url == "https://host/x"


@pytest.mark.parametrize("to", ["http://host/y", "ftp://host/y", "file:///etc/passwd"])
def test_no_redirection_away_from_tls(to: str) -> None:
    request = client._request(Source("https://host/x"))
    with pytest.raises(GeoError, match="without TLS"):
        client._SameOrSafer().redirect_request(request, io.BytesIO(), 302, "", {}, to)
