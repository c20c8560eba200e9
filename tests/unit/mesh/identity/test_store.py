"""Files of the identity: private, whole, and never replaced behind anybody's back."""

import os
from pathlib import Path
from typing import Any

import pytest

from mesh.identity import store as module
from mesh.identity.key import SecretKey
from mesh.identity.line import write_line
from mesh.identity.store import IdentityStore, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path) -> IdentityStore:
    return IdentityStore(folder)


def test_key_is_made_once_and_private(store: IdentityStore, folder: Path) -> None:
    key = store.node_key()
    assert store.node_key() == key
    assert IdentityStore(folder).node_key() == key
    assert (folder / "node.key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == ["node.key"]


def test_private_under_any_umask(store: IdentityStore, folder: Path) -> None:
    old = os.umask(0o277)
    try:
        store.node_key()
    finally:
        os.umask(old)
    assert (folder / "node.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_open_to_others(store: IdentityStore, folder: Path, mode: int) -> None:
    key = store.node_key()
    path = folder / "node.key"
    path.chmod(mode)
    with pytest.raises(StoreError, match=f"mode {mode:04o}.*chmod 600 {path}"):
        store.node_key()
    path.chmod(0o600)
    assert store.node_key() == key


@pytest.mark.parametrize("content", [b"", b"garbage", b"fwkey1", b"\xff" * 50, b"fwinvite1abc"])
def test_damaged_key_is_kept_and_blocks_until_somebody_acts(
    store: IdentityStore, folder: Path, content: bytes
) -> None:
    key = store.node_key()
    path = folder / "node.key"
    good = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged .* kept as node.key.damaged-1"):
        store.node_key()
    kept = folder / "node.key.damaged-1"
    assert kept.read_bytes() == content
    assert not path.exists()
    with pytest.raises(StoreError, match=r"node.key is missing, and node.key.damaged-1"):
        store.node_key()
    assert not path.exists()
    path.write_bytes(good)
    path.chmod(0o600)
    assert store.node_key() == key
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged-2"):
        store.node_key()
    kept.unlink()
    (folder / "node.key.damaged-2").unlink()
    assert store.node_key() != key


def test_every_flipped_character_of_a_key_is_found(store: IdentityStore, folder: Path) -> None:
    store.node_key()
    path = folder / "node.key"
    good = path.read_bytes()
    for at in range(0, len(good) - 1, 5):
        path.write_bytes(good[:at] + (b"7" if good[at : at + 1] != b"7" else b"8") + good[at + 1 :])
        path.chmod(0o600)
        with pytest.raises(StoreError, match="damaged"):
            store.node_key()
        (folder / "node.key.damaged-1").unlink()


def test_a_key_of_a_wrong_length(store: IdentityStore, folder: Path) -> None:
    store.node_key()
    (folder / "node.key").write_text(write_line("fwkey", 1, b"short"))
    with pytest.raises(StoreError, match="damaged"):
        store.node_key()


def test_a_dying_disk(store: IdentityStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.node_key()
    monkeypatch.setattr(module, "DAMAGED_MAX", 1)
    (folder / "node.key.damaged-1").touch()
    (folder / "node.key").write_bytes(b"x")
    with pytest.raises(StoreError, match="check the disk"):
        store.node_key()
    assert (folder / "node.key").read_bytes() == b"x"


def test_not_a_file(store: IdentityStore, folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "node.key", 0o600)
    with pytest.raises(StoreError, match="is not a file"):
        store.node_key()


def test_what_a_crash_left_is_overwritten(store: IdentityStore, folder: Path) -> None:
    folder.mkdir()
    (folder / ".node.key.new").write_bytes(b"half")
    key = store.node_key()
    assert store.node_key() == key
    assert not (folder / ".node.key.new").exists()


def test_a_failed_write_leaves_the_old(
    store: IdentityStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep_membership(b"old")
    old = (folder / "membership.bin").read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left on device: free some space"):
        store.keep_membership(b"new")
    assert (folder / "membership.bin").read_bytes() == old


def test_unusable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot use"):
        IdentityStore(tmp_path / "file").node_key()


def test_read_only(store: IdentityStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StoreError, match="change the folder's owner"):
        store.node_key()


def test_network_key(store: IdentityStore, folder: Path) -> None:
    assert store.network_key() is None
    key = store.make_network_key()
    assert store.network_key() == key
    assert (folder / "network.key").stat().st_mode & 0o777 == 0o600
    store.keep_network_key(key)
    with pytest.raises(StoreError, match="another network"):
        store.keep_network_key(SecretKey(bytes(32)))
    with pytest.raises(StoreError, match="another network"):
        store.make_network_key()
    assert store.network_key() == key
    (folder / "network.key").write_bytes(b"x")
    with pytest.raises(StoreError, match="import the owner key"):
        store.network_key()


def test_membership(store: IdentityStore, folder: Path, network: Any) -> None:
    assert store.membership(network.node) is None
    state = network.membership().state()
    store.keep_membership(state)
    found = store.membership(network.node)
    assert found is not None
    assert found.state() == state
    with pytest.raises(StoreError, match="of another node"):
        store.membership(SecretKey(bytes(32)))
    store.forget_membership()
    store.forget_membership()
    assert store.membership(network.node) is None


@pytest.mark.parametrize("at", [0, 20, 60, -1])
def test_damaged_membership(store: IdentityStore, folder: Path, network: Any, at: int) -> None:
    store.keep_membership(network.membership().state())
    path = folder / "membership.bin"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    for said in (r"checksum is wrong.*kept as membership.bin.damaged-1", "is missing"):
        with pytest.raises(StoreError, match=said):
            store.membership(network.node)
    assert (folder / "membership.bin.damaged-1").read_bytes() == data


def test_membership_that_is_whole_but_not_one(store: IdentityStore, network: Any) -> None:
    store.keep_membership(b"x")
    with pytest.raises(StoreError, match="damaged"):
        store.membership(network.node)
