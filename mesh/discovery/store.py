"""`peers.json`: where peers were last reached. Blocks: from trio, call it in a thread.

Addresses only, never who was there: whoever answers proves that anew. A damaged file costs nothing but a
slower start without a seed, so it is set aside and the node goes on.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.identity.invite import is_address

FILE_NAME = "peers.json"
ADDRESSES_MAX = 64  # one that answers is enough; more only make the file of a large network churn
FILE_BYTES_MAX = 64 * 1024  # far above ADDRESSES_MAX of the longest
DAMAGED_MAX = 100  # copies; more says that a disk is dying
PRIVATE_FILE = 0o600


class _Content(msgspec.Struct, frozen=True):
    addresses: Annotated[list[Annotated[str, Meta(max_length=300)]], Meta(max_length=1024)]


class PeersFile:
    """The file of last known addresses. Nothing here raises: `trouble` says what went wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trouble = ""  # of the last call, one sentence; empty when nothing

    def load(self) -> list[str]:
        """The addresses, best first; none when there is no file or it cannot be used."""
        self.trouble = ""
        try:
            with self._path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            self.trouble = f"cannot read {self._path}: {error.strerror or error}"
            return []
        try:
            if len(data) > FILE_BYTES_MAX:
                raise msgspec.DecodeError("it is too long")
            return _usable(msgspec.json.decode(data, type=_Content).addresses)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._set_aside(str(error))
            return []

    def keep(self, addresses: Iterable[str]) -> None:
        """Replace the file; readers and a crash see the old one or the new one."""
        self.trouble = ""
        content = msgspec.json.format(msgspec.json.encode(_Content(_usable(addresses))), indent=1)
        # One name for each file: what a crash leaves behind is overwritten, not collected.
        beside = self._path.with_name(f".{self._path.name}.new")
        try:
            beside.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(beside, flags, PRIVATE_FILE), "wb") as file:
                file.write(content + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            self.trouble = f"cannot write {self._path}: {error.strerror or error}"

    def _set_aside(self, reason: str) -> None:
        for number in range(1, DAMAGED_MAX + 1):
            copy = self._path.with_name(f"{self._path.name}.damaged-{number}")
            if copy.exists():
                continue
            try:
                self._path.rename(copy)
            except OSError as error:
                self.trouble = f"{self._path} is damaged ({reason}) and stays: {error.strerror or error}"
            else:
                self.trouble = f"{self._path} is damaged ({reason}): kept as {copy.name}, begun anew"
            return
        self.trouble = f"{self._path} is damaged ({reason}), and so were {DAMAGED_MAX} before it"


def _usable(addresses: Iterable[str]) -> list[str]:
    return [address for address in dict.fromkeys(addresses) if is_address(address)][:ADDRESSES_MAX]
