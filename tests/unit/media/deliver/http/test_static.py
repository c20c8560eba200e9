"""A fixed set of files."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from media.deliver.http import store
from media.deliver.http.static import StaticFiles
from media.deliver.http.store import read_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "player.js").write_text("let a = 1;\n" * 100)
    (tmp_path / "sub" / "hls-0123abcd.min.js").write_text("x")
    (tmp_path / "hls.0123abcd.js").write_text("y")
    (tmp_path / "logo.png").write_bytes(bytes(1000))
    (tmp_path / ".hidden").write_text("secret")
    return tmp_path


def test_files_are_read_by_relative_path(folder: Path) -> None:
    assert sorted(read_folder(folder)) == [
        "hls.0123abcd.js",
        "logo.png",
        "player.js",
        "sub/hls-0123abcd.min.js",
    ]


def test_large_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FILE_MAX_BYTES", 500)
    with pytest.raises(OSError, match="too large"):
        read_folder(folder)


def test_types_caching_and_compression(client: Any, server: Any, folder: Path) -> None:
    server.route("GET", "/player/*", StaticFiles("/player/", read_folder(folder)))
    plain = client.get("/player/player.js", "Accept-Encoding: gzip")
    assert gzip.decompress(plain.body) == b"let a = 1;\n" * 100
    assert plain.fields["Content-Type"] == "text/javascript; charset=utf-8"
    assert plain.fields["Cache-Control"] == "no-cache"
    again = client.get("/player/player.js", f"If-None-Match: {plain.fields['ETag']}")
    assert again.status == 304
    hashed = client.get("/player/hls.0123abcd.js")
    assert hashed.fields["Cache-Control"] == "public, max-age=31536000, immutable"
    image = client.get("/player/logo.png", "Accept-Encoding: gzip")
    assert (image.fields["Content-Type"], len(image.body)) == ("image/png", 1000)
    for path in ("/player/.hidden", "/player/", "/player/sub", "/player/nothing.js"):
        answer = client.get(path)
        assert (answer.status, int(answer.fields["Content-Length"])) == (404, len(answer.body))
