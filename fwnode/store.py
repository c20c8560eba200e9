"""The data folder on disk: its lock, the database of stream keys, and where the running node answers.

All of it blocks: from trio, call it in a thread. A crash at any instant leaves it loadable:
the database is in WAL mode and changes its schema in transactions, files are written beside
and renamed.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from fwnode import keys
from fwnode.errors import StoreError
from fwnode.keys import Keyring, StreamKey
from fwnode.promise.promise import Kept
from fwnode.transcoding.usage import Line, Used

DATABASE = "fwnode.db"
LOCK = "fwnode.lock"
NODE_FILE = "node.json"
PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
BUSY_S = 5.0  # another command's write takes milliseconds; this is for a stalled disk
LOCK_WAIT_S = 1.0  # `fwnode key new` holds the lock for a few ms
LOCK_POLL_S = 0.02

# Each entry brings the schema from its index to the next version; never edited once released.
MIGRATIONS = (
    """
    CREATE TABLE stream_keys (
        id TEXT PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        pattern TEXT NOT NULL,
        label TEXT NOT NULL,
        created_unix_s INTEGER NOT NULL,
        last_used_unix_s INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    """,
    """
    ALTER TABLE stream_keys ADD COLUMN local INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE notices (
        network BLOB NOT NULL,
        author BLOB NOT NULL,
        slot INTEGER NOT NULL,
        data BLOB NOT NULL,
        PRIMARY KEY (network, author, slot)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE usage (
        day TEXT NOT NULL,
        kind TEXT NOT NULL,
        engine TEXT NOT NULL,
        rendition TEXT NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (day, kind, engine, rendition)
    ) STRICT, WITHOUT ROWID;
    """,
)
USAGE_DAYS_MAX = 800  # two years and a bit: this year's months beside last year's
NoticeKey: TypeAlias = tuple[bytes, int]  # author, slot
PROMISE_FACT = "promise"
FIRST_KEY_FACT = "first_key_unix_s"  # so that revoking every key does not bring one back


class NodeFile(msgspec.Struct, frozen=True):
    """How the commands find the running node: written by it, readable by its user only."""

    pid: int
    admin: str  # "host:port" to connect to
    token: str  # bearer token of the control API, made at each start


class DataFolder:
    """One data folder, locked against a second node and against changes behind a running one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def lock(self) -> None:
        """Make the folder if needed and take its lock, or raise StoreError naming who has it."""
        with _explained(self.path):
            self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        if not _try_lock(descriptor, time.monotonic() + LOCK_WAIT_S):
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise StoreError(
                f"the data folder {self.path} is in use by process {holder or 'unknown'}: "
                "stop that node, or give this one another --data-dir"
            )
        self._lock = descriptor
        with _explained(self.path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def unlock(self) -> None:
        """Let others have the folder; the kernel does it too when the process dies."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def announce(self, node: NodeFile) -> None:
        """Say where the running node answers."""
        write_whole(self.path / NODE_FILE, msgspec.json.encode(node), PRIVATE_FILE)

    def withdraw(self) -> None:
        """The node is going: nobody need try it any more."""
        (self.path / NODE_FILE).unlink(missing_ok=True)

    def announced(self) -> NodeFile | None:
        """Where a node of this folder said that it answers; it may have died since."""
        try:
            return msgspec.json.decode((self.path / NODE_FILE).read_bytes(), type=NodeFile)
        except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read {self.path / NODE_FILE}: {error.strerror}") from None


class Database:
    """`fwnode.db`. Usable from any thread, one call at a time; every call blocks on the disk."""

    def __init__(self, folder: Path) -> None:
        """Open, creating and migrating as needed. Raises StoreError."""
        self._path = folder / DATABASE
        self._turn = threading.Lock()
        with _explained(self._path):
            # SQLite gives its -wal and -shm files the mode of the database.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                # FULL, not WAL's usual NORMAL: a revoked key must stay revoked after a power cut,
                # and keys change too rarely for the extra fsync to cost anything.
                self._connection.execute("PRAGMA synchronous = FULL")
                self._migrate()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Fold the write-ahead log into the database and let go of both."""
        with self._turn, _explained(self._path):
            self._connection.close()

    def keyring(self) -> Keyring:
        """All stream keys."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id, digest, pattern, label, created_unix_s, last_used_unix_s, local "
                "FROM stream_keys ORDER BY rowid"
            ).fetchall()
        return Keyring(_key(*row) for row in rows)

    def new_key(self, pattern: str, label: str, *, local: bool = False) -> tuple[str, StreamKey]:
        """Make and keep a key; its text is not kept. Raises StoreError, ValueError for a bad pattern."""
        with self._transaction() as connection:
            return _insert_key(connection, pattern, label, local=local)

    def first_key(self) -> str:
        """The text of a key for every stream on the folder's first start, "" ever after."""
        with self._transaction() as connection:
            fact = (FIRST_KEY_FACT, str(int(time.time())))
            if not connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", fact).rowcount:
                return ""
            if connection.execute("SELECT 1 FROM stream_keys").fetchone():
                return ""  # `fwnode key new` came before the first start
            return _insert_key(connection, keys.ANY_STREAM, "made at first start")[0]

    def delete_key(self, key_id: str) -> bool:
        """Forget a key; False when there is none of that id."""
        with self._transaction() as connection:
            return connection.execute("DELETE FROM stream_keys WHERE id = ?", (key_id,)).rowcount > 0

    def note_used(self, used: dict[str, int]) -> None:
        """Keep when keys were last used: key id to Unix second."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE stream_keys SET last_used_unix_s = ? WHERE id = ?",
                [(unix_s, key_id) for key_id, unix_s in used.items()],
            )

    def promise(self) -> Kept:
        """What is held and was counted, as `keep_promise` was given it last."""
        with self._transaction() as connection:
            row = connection.execute("SELECT value FROM facts WHERE name = ?", (PROMISE_FACT,)).fetchone()
        try:
            return msgspec.json.decode(row[0], type=Kept) if row else Kept()
        except msgspec.DecodeError as error:
            raise StoreError(f"{self._path}: what is kept of the promise cannot be read: {error}") from None

    def keep_promise(self, kept: Kept) -> None:
        """What is to be so after a restart."""
        with self._transaction() as connection:
            value = msgspec.json.encode(kept).decode()
            connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (PROMISE_FACT, value))

    def notices(self, network: bytes) -> list[bytes]:
        """What members of a network say, as `keep_notices` was given it."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT data FROM notices WHERE network = ?", (network,))
            return [row[0] for row in rows.fetchall()]

    def keep_notices(self, network: bytes, put: dict[NoticeKey, bytes], gone: Iterable[NoticeKey]) -> None:
        """Keep notices by author and slot, and forget others; also all that is of another network."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM notices WHERE network != ?", (network,))
            connection.executemany(
                "DELETE FROM notices WHERE network = ? AND author = ? AND slot = ?",
                [(network, author, slot) for author, slot in gone],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO notices VALUES (?, ?, ?, ?)",
                [(network, author, slot, data) for (author, slot), data in put.items()],
            )

    def add_usage(self, day: str, lines: dict[Line, int]) -> None:
        """Add to a day's sums; days beyond USAGE_DAYS_MAX are forgotten, the oldest first."""
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
                [(day, *line, amount) for line, amount in lines.items()],
            )
            days = connection.execute("SELECT DISTINCT day FROM usage ORDER BY day DESC").fetchall()
            connection.executemany("DELETE FROM usage WHERE day = ?", days[USAGE_DAYS_MAX:])

    def usage(self) -> list[Used]:
        """All sums that are kept, by day."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT day, kind, engine, rendition, amount FROM usage ORDER BY day, kind"
            )
            return [Used(*row) for row in rows.fetchall()]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn, _explained(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _migrate(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self._path} was written by a newer fwnode (schema {version}, this one knows "
                f"{len(MIGRATIONS)}): run that version, or give another --data-dir"
            )
        for number in range(version, len(MIGRATIONS)):
            script = f"BEGIN IMMEDIATE; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;"
            self._connection.executescript(script)


def read_usage(folder: Path) -> list[Used]:
    """As Database.usage, without making a database where there is none. Raises StoreError."""
    if not (folder / DATABASE).exists():
        return []
    with contextlib.closing(Database(folder)) as database:
        return database.usage()


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Write a file so that others see the old one or the whole new one. Raises StoreError."""
    temporary = ""
    with _explained(path):
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise


def _key(
    key_id: str, digest: bytes, pattern: str, label: str, created_unix_s: int, used_unix_s: int, local: int
) -> StreamKey:
    return StreamKey(key_id, digest, pattern, label, created_unix_s, used_unix_s, bool(local))


def _insert_key(
    connection: sqlite3.Connection, pattern: str, label: str, *, local: bool = False
) -> tuple[str, StreamKey]:
    counted = connection.execute("SELECT count(*), count(*) FILTER (WHERE NOT local) FROM stream_keys")
    total, shared = counted.fetchone()
    if total >= keys.KEYS_MAX:
        raise ValueError(f"there are {keys.KEYS_MAX} stream keys already: revoke some")
    if not local and shared >= keys.SHARED_MAX:
        raise ValueError(
            f"there are {keys.SHARED_MAX} stream keys for the network already: revoke some, or make one for "
            "this node only (--local)"
        )
    entropy = secrets.token_bytes(keys.KEY_ENTROPY_BYTES)
    text, key = keys.make_key(entropy, pattern, label, int(time.time()), local=local)
    connection.execute(
        "INSERT INTO stream_keys VALUES (?, ?, ?, ?, ?, ?, ?)",
        (key.id, key.digest, key.pattern, key.label, key.created_unix_s, key.last_used_unix_s, key.local),
    )
    return text, key


def _try_lock(descriptor: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(LOCK_POLL_S)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error}{_database_advice(error)}") from None
    except OSError as error:
        raise StoreError(f"cannot write {path}: {_disk_advice(error)}") from None


def _database_advice(error: sqlite3.DatabaseError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return ": free some space and try again; what was stored before is intact"
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return (
            ": this user must be able to write the data folder; change its owner or give another --data-dir"
        )
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return ": restore it from a backup, or move it away to start with new stream keys"
    if code == sqlite3.SQLITE_BUSY:
        return ": another program has it open and is writing; try again"
    return ""


def _disk_advice(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return f"{reason}: free some space and try again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{reason}: change the folder's owner or give another --data-dir"
    return reason
