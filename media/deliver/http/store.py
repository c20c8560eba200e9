"""Files for the HTTP server: read whole at the start, or kept in memory files for sendfile."""

import os
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

from media.net.transport import Buffer, FileSlice

FILE_MAX_BYTES = 8 << 20  # one file of a page; what is larger does not belong in memory
FOLDER_MAX_BYTES = 64 << 20


class _Descriptor:
    """Closes a descriptor when nothing refers to it any more."""

    __slots__ = ("__weakref__",)

    def __init__(self, descriptor: int) -> None:
        weakref.finalize(self, os.close, descriptor)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path with "/"; hidden ones are left out.

    Raises OSError when something cannot be read or is larger than a page has any reason to be.
    """
    files = {}
    total = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or not path.is_file():
            continue
        data = path.read_bytes()
        total += len(data)
        if len(data) > FILE_MAX_BYTES or total > FOLDER_MAX_BYTES:
            raise OSError(f"{path}: too large to be served from memory")
        files[name] = data
    return files


def memory_file(parts: Sequence[Buffer]) -> FileSlice | None:
    """Bytes in a file without a name, which sendfile sends to any number of viewers without copies.

    None where there are no such files (macOS). The memory is freed with the last slice of it.
    Raises OSError when descriptors or memory ran out.
    """
    if sys.platform != "linux":
        return None
    descriptor = os.memfd_create("fwnode", os.MFD_CLOEXEC)
    owner = _Descriptor(descriptor)
    length = 0
    for part in parts:
        view = memoryview(part)
        while view:
            written = os.write(descriptor, view)
            view = view[written:]
            length += written
    return FileSlice(descriptor, 0, length, owner)
