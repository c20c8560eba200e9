"""The identity's files: `node.key`, `network.key`, `membership.bin`. Blocks: from trio, call it in a thread.

The caller holds the folder's lock. Each file is written beside, synced and renamed, so that a crash at any
instant leaves the old one or the new one. A damaged file is kept aside as `<name>.damaged-1` and so on, and
while such a copy lies there nothing takes the file's place by itself: not even under a supervisor that starts
the node again does it become another node, or forget who was revoked.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from mesh.errors import MeshError, Refused, StateError, WireError
from mesh.identity.key import SEED_BYTES, SecretKey
from mesh.identity.line import LINE_CHARACTERS_MAX, read_line_untrusted, write_line
from mesh.identity.membership import STATE_BYTES_MAX, Membership

NODE_KEY = "node.key"
NETWORK_KEY = "network.key"
MEMBERSHIP = "membership.bin"
PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
OTHERS = 0o077  # any right of group and others
KEY_PREFIX = "fwkey"  # of both key files, so that one is never taken for an invite
KEY_VERSION = 1
KEY_WHAT = "the key"
MAGIC = b"fwnode membership\n"
CHECKSUM_BYTES = 32
DAMAGED_MAX = 100  # copies; more says that a disk is dying


class StoreError(MeshError):
    """A file cannot be used or written. The text names it and says what to do; nothing was lost by it."""


class IdentityStore:
    """The files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def node_key(self) -> SecretKey:
        """The node's key, made at its first start. Raises StoreError."""
        key = self._load_key(NODE_KEY)
        if key is None:
            key = SecretKey(secrets.token_bytes(SEED_BYTES))
            self._keep_key(NODE_KEY, key)
        return key

    def network_key(self) -> SecretKey | None:
        """The owner's key, or None when this node is not the owner's. Raises StoreError."""
        return self._load_key(NETWORK_KEY)

    def make_network_key(self) -> SecretKey:
        """A new network's key. Raises StoreError when there is one already."""
        key = SecretKey(secrets.token_bytes(SEED_BYTES))
        self.keep_network_key(key)
        return key

    def keep_network_key(self, key: SecretKey) -> None:
        """Keep an imported key. Raises StoreError when there is another one, which stays."""
        held = self._load_key(NETWORK_KEY)
        if held is not None and held != key:
            raise StoreError(
                f"{self._folder / NETWORK_KEY} holds the owner key of another network: export it and move it "
                "away first"
            )
        if held is None:
            self._keep_key(NETWORK_KEY, key)

    def membership(self, node_key: SecretKey) -> Membership | None:
        """This node's membership, or None when it is in no network. Raises StoreError."""
        path = self._folder / MEMBERSHIP
        data = self._read(path, STATE_BYTES_MAX + len(MAGIC) + CHECKSUM_BYTES)
        if data is None:
            return None
        try:
            membership = Membership.restore(_unsealed(data))
        except (WireError, Refused) as error:
            raise self._set_aside(path, str(error), "join the network again with a new invite") from None
        if membership.node_id != node_key.node_id:
            raise StoreError(
                f"{path} is the membership of another node than {NODE_KEY}: restore both files of one node, "
                f"or move {MEMBERSHIP} away and join again"
            )
        return membership

    def keep_membership(self, state: bytes) -> None:
        """Keep what `Membership.state()` gave. Raises StoreError."""
        self._write(self._folder / MEMBERSHIP, _sealed(state))

    def forget_membership(self) -> None:
        """Leave the network: the node is alone again, with the same key. Raises StoreError."""
        path = self._folder / MEMBERSHIP
        with _explained(path):
            path.unlink(missing_ok=True)
            _sync_folder(self._folder)

    def _load_key(self, name: str) -> SecretKey | None:
        path = self._folder / name
        data = self._read(path, LINE_CHARACTERS_MAX)
        if data is None:
            return None
        try:
            seed = read_line_untrusted(KEY_PREFIX, KEY_VERSION, data.decode("ascii", "replace"), KEY_WHAT)
            return SecretKey(seed)
        except (WireError, StateError) as error:
            fix = "go on with a new key, under which it must be invited again"
            if name == NETWORK_KEY:
                fix = "import the owner key from its export"
            raise self._set_aside(path, str(error), fix) from None

    def _keep_key(self, name: str, key: SecretKey) -> None:
        line = write_line(KEY_PREFIX, KEY_VERSION, key.seed)
        self._write(self._folder / name, f"{line}\n".encode())

    def _read(self, path: Path, bytes_max: int) -> bytes | None:
        """All of a private file, or None when there is none and never was a damaged one."""
        with _explained(path):
            try:
                # Not blocking, so that a pipe put there cannot hang the start.
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except FileNotFoundError:
                self._refuse_after_damage(path)
                return None
            with os.fdopen(descriptor, "rb") as file:
                _check_private(path, os.fstat(descriptor))
                return file.read(bytes_max + 1)

    def _refuse_after_damage(self, path: Path) -> None:
        if copies := sorted(path.parent.glob(f"{path.name}.damaged-*")):
            raise StoreError(
                f"{path} is missing, and {copies[-1].name} is what was damaged: restore {path.name} from a "
                "backup, or move the damaged copy out of the folder to begin anew"
            )

    def _set_aside(self, path: Path, reason: str, fix: str) -> StoreError:
        with _explained(path):
            for number in range(1, DAMAGED_MAX + 1):
                copy = path.with_name(f"{path.name}.damaged-{number}")
                if not copy.exists():
                    path.rename(copy)
                    _sync_folder(path.parent)
                    return StoreError(
                        f"{path} is damaged ({reason}) and is kept as {copy.name}: restore it from a backup, "
                        f"or move that copy out of the folder to {fix}"
                    )
        return StoreError(
            f"{path} is damaged ({reason}), and so were {DAMAGED_MAX} before it: check the disk"
        )

    def _write(self, path: Path, data: bytes) -> None:
        """Write a private file so that others see the old one or the whole new one."""
        # One name for each file: what a crash leaves behind is overwritten, not collected.
        beside = path.with_name(f".{path.name}.new")
        with _explained(path):
            self._folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(beside, flags, PRIVATE_FILE), "wb") as file:
                os.fchmod(file.fileno(), PRIVATE_FILE)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
            _sync_folder(self._folder)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file: move it away")
    if found.st_mode & OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise StoreError(f"{path} can be used by others (mode {mode:04o}): chmod 600 {path}")


def _sealed(data: bytes) -> bytes:
    return MAGIC + hashlib.blake2b(data, digest_size=CHECKSUM_BYTES).digest() + data


def _unsealed(data: bytes) -> bytes:
    start = len(MAGIC) + CHECKSUM_BYTES
    content = data[start:]
    if data[:start] != _sealed(content)[:start]:
        raise WireError("its checksum is wrong")
    return content


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the disk says into one sentence that says what to do."""
    try:
        yield
    except OSError as error:
        advice = ""
        if error.errno == errno.ENOSPC:
            advice = ": free some space and try again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = ": change the folder's owner or give another data folder"
        raise StoreError(f"cannot use {path}: {error.strerror or error}{advice}") from None
