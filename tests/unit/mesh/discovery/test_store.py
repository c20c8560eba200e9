"""The file of last known addresses."""

import json
import stat
from pathlib import Path

import pytest

from mesh.discovery.store import ADDRESSES_MAX, FILE_BYTES_MAX, PeersFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "peers.json"


def test_no_file_is_no_trouble(path: Path) -> None:
    file = PeersFile(path)
    assert (file.load(), file.trouble) == ([], "")


def test_addresses_come_back_and_nothing_else_is_kept(path: Path) -> None:
    file = PeersFile(path)
    file.keep(["a.example:1", "[2001:db8::1]:2", "a.example:1", "fwinvite-secret", "host:0"])
    assert not file.trouble
    assert PeersFile(path).load() == ["a.example:1", "[2001:db8::1]:2"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_it_is_bounded(path: Path) -> None:
    file = PeersFile(path)
    file.keep(f"host-{i}:1" for i in range(1000))
    assert len(file.load()) == ADDRESSES_MAX


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"[1, 2]",
        b'{"addresses": [7]}',
        b'{"addresses": ["a:1"',
        b"[" * 5000,
        b'{"addresses": ["\xff"]}',
        json.dumps({"addresses": ["x" * 400]}).encode(),
        b" " * (FILE_BYTES_MAX + 1),
    ],
)
def test_a_damaged_file_is_set_aside(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    file = PeersFile(path)
    assert file.load() == []
    assert "kept as peers.json.damaged-1" in file.trouble
    assert path.with_name("peers.json.damaged-1").read_bytes() == data
    assert (file.load(), file.trouble) == ([], "")
    path.write_bytes(data)
    file.load()
    assert "damaged-2" in file.trouble


def test_lines_that_are_no_addresses_are_skipped(path: Path) -> None:
    path.write_text('{"addresses": ["a:1", "../etc", "b:2"], "later": true}')
    assert PeersFile(path).load() == ["a:1", "b:2"]


def test_a_folder_that_cannot_be_used_is_said(path: Path) -> None:
    path.mkdir()
    file = PeersFile(path)
    assert file.load() == []
    assert "cannot read" in file.trouble
    file.keep(["a:1"])
    assert "cannot write" in file.trouble
