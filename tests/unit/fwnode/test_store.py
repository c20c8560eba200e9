"""The data folder: locks, migrations, what a full disk or a crash leaves."""

import os
import resource
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fwnode import store
from fwnode.errors import StoreError
from fwnode.promise.holds import EVERYBODY, Holds
from fwnode.promise.promise import Kept
from fwnode.store import Database, DataFolder, NodeFile, write_whole


def test_keys_survive_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path)
    text, key = database.new_key("cam-*", "stage")
    database.note_used({key.id: 1_700_000_000})
    database.close()
    database = Database(tmp_path)
    kept = database.keyring().match(text)
    assert kept is not None
    assert (kept.id, kept.pattern, kept.label, kept.last_used_unix_s) == (
        key.id,
        "cam-*",
        "stage",
        1_700_000_000,
    )
    assert database.delete_key(key.id) and not database.delete_key(key.id)
    assert len(database.keyring()) == 0
    database.close()


def test_the_key_itself_is_nowhere_on_disk(tmp_path: Path) -> None:
    database = Database(tmp_path)
    text, _ = database.new_key("*", "")
    database.close()
    assert all(text.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_drain_and_the_volume_survive_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path)
    assert database.promise() == Kept()
    kept = Kept(Holds().drained(EVERYBODY, 1.5).paused(), {"2026-11": 7}, 9)
    database.keep_promise(Kept())
    database.keep_promise(kept)
    database.close()
    database = Database(tmp_path)
    assert database.promise() == kept
    database.close()


def test_first_key_once_even_when_revoked(tmp_path: Path) -> None:
    database = Database(tmp_path)
    text = database.first_key()
    assert database.keyring().match(text) is not None
    assert database.first_key() == ""
    database.delete_key(database.keyring().all()[0].id)
    assert database.first_key() == ""
    database.close()


def test_no_first_key_when_there_are_keys(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.new_key("*", "")
    assert database.first_key() == "" and len(database.keyring()) == 1
    database.close()


def test_files_are_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "b")
    folder.lock()
    database = Database(folder.path)
    database.new_key("*", "")
    folder.announce(NodeFile(1, "127.0.0.1:1", "token"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.iterdir()}
    assert set(modes.values()) == {0o600} and {"fwnode.db-wal", "node.json", "fwnode.lock"} <= set(modes)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    database.close()
    folder.unlock()


def test_one_node_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_WAIT_S", 0.0)
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    first.lock()
    with pytest.raises(StoreError, match=rf"in use by process {os.getpid()}: .*--data-dir"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_node_file_comes_and_goes(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.announced() is None
    folder.announce(NodeFile(5, "127.0.0.1:1", "token"))
    assert folder.announced() == NodeFile(5, "127.0.0.1:1", "token")
    folder.withdraw()
    folder.withdraw()
    assert folder.announced() is None
    (tmp_path / store.NODE_FILE).write_bytes(b"{tor")
    assert folder.announced() is None


def test_write_whole_leaves_nothing_beside(tmp_path: Path) -> None:
    write_whole(tmp_path / "x", b"one", 0o644)
    write_whole(tmp_path / "x", b"two", 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_bytes() == b"two"
    with pytest.raises(StoreError, match="No such file"):
        write_whole(tmp_path / "none" / "x", b"", 0o644)


def test_a_database_of_the_future_is_left_alone(tmp_path: Path) -> None:
    Database(tmp_path).close()
    connection = sqlite3.connect(tmp_path / store.DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer fwnode"):
        Database(tmp_path)


def test_every_migration_can_be_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = store.MIGRATIONS
    monkeypatch.setattr(store, "MIGRATIONS", (*whole, "CREATE TABLE more (x); CREATE TABLE more (x);"))
    with pytest.raises(StoreError, match="already exists"):
        Database(tmp_path)
    monkeypatch.setattr(store, "MIGRATIONS", (*whole, "CREATE TABLE more (x);"))
    Database(tmp_path).close()


def test_garbage_in_place_of_the_database(tmp_path: Path) -> None:
    (tmp_path / store.DATABASE).write_bytes(b"not a database, but long enough to be one" * 50)
    with pytest.raises(StoreError, match=r"fwnode\.db: .*restore it from a backup"):
        Database(tmp_path)


def test_full_disk_is_said_in_one_line_and_loses_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path)
    before, _ = database.new_key("*", "before")
    database._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreError, match="free some space") as caught:
        for number in range(10_000):
            database.new_key("*", f"{number} {'x' * 60}")
    assert "\n" not in str(caught.value)
    assert database.keyring().match(before) is not None
    database.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file"):
        DataFolder(tmp_path / "file" / "data").lock()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="change the folder's owner"):
        DataFolder(tmp_path).lock()


CRASHER = """
import os, sys, threading, pathlib
from fwnode.store import Database
database = Database(pathlib.Path(sys.argv[1]))
print("ready", flush=True)
threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), 9)).start()
while True:
    key = database.new_key("*", "")[0]
    sys.stdout.write(key + "\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("after_s", ["0.01", "0.05", "0.2"])
def test_a_crash_at_any_instant_keeps_what_was_confirmed(tmp_path: Path, after_s: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CRASHER, str(tmp_path), after_s], capture_output=True, text=True, check=False
    )
    assert ran.returncode == -9, ran.stderr
    confirmed = [line for line in ran.stdout.splitlines() if len(line) == 35]
    database = Database(tmp_path)
    ring = database.keyring()
    assert all(ring.match(key) for key in confirmed)
    assert len(confirmed) <= len(ring) <= len(confirmed) + 1
    assert database._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_files_cannot_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE is the nearest thing to a full disk that a test can have without root."""
    script = "import resource, signal, sys, pathlib\nfrom fwnode.store import Database\n"
    script += "database = Database(pathlib.Path(sys.argv[1]))\n"
    script += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    script += "resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))\ndatabase.new_key('*', '')"
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "fwnode.errors.StoreError" in ran.stderr.splitlines()[-1]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1
    database = Database(tmp_path)
    assert len(database.keyring()) == 0
    database.close()


def test_keys_of_an_older_version_are_for_the_network(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / store.DATABASE)
    connection.executescript(store.MIGRATIONS[0] + "PRAGMA user_version = 1;")
    connection.execute("INSERT INTO stream_keys VALUES ('abcdefgh', ?, '*', 'old', 1, 2)", (bytes(32),))
    connection.commit()
    connection.close()
    database = Database(tmp_path)
    [key] = database.keyring().all()
    assert (key.label, key.local, key.maker) == ("old", False, b"")
    database.close()


def test_local_keys_are_so_after_a_restart_and_are_not_counted_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.keys, "SHARED_MAX", 1)
    database = Database(tmp_path)
    database.new_key("*", "shared")
    with pytest.raises(ValueError, match="--local"):
        database.new_key("*", "too many")
    database.new_key("*", "local", local=True)
    database.close()
    database = Database(tmp_path)
    assert {key.label: key.local for key in database.keyring().all()} == {"shared": False, "local": True}
    database.close()


def test_notices_are_kept_by_network(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.keep_notices(b"one", {(b"a", 0): b"first", (b"a", 1): b"second", (b"b", 0): b"third"}, ())
    database.keep_notices(b"one", {(b"a", 0): b"newer"}, [(b"b", 0)])
    assert sorted(database.notices(b"one")) == [b"newer", b"second"]
    database.keep_notices(b"two", {}, ())
    assert database.notices(b"one") == []
    database.close()
