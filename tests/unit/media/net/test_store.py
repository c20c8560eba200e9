"""Bytes in memory files."""

import os
import sys
from pathlib import Path

import pytest

from media.net import store
from media.net.store import MemoryFiles
from media.net.transport import FileSlice

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")


def content(part: FileSlice) -> bytes:
    return os.pread(part.descriptor, part.length, part.offset)


def resident_bytes(part: FileSlice) -> int:
    return os.fstat(part.descriptor).st_blocks * 512


def test_objects_keep_their_bytes_apart() -> None:
    files = MemoryFiles()
    first = files.put([b"abc", bytearray(b"def"), memoryview(b"ghi")])
    second = files.put([b"x" * 5000])
    many = files.put([b"%d," % number for number in range(5000)])
    assert first is not None and second is not None and many is not None
    assert content(first) == b"abcdefghi"
    assert content(second) == b"x" * 5000
    assert content(many) == b"".join(b"%d," % number for number in range(5000))
    assert first.descriptor == second.descriptor


def test_memory_is_freed_with_the_last_slice() -> None:
    files = MemoryFiles()
    kept, gone = files.put([b"k"]), files.put([bytes(1 << 20)])
    assert kept is not None and gone is not None
    assert resident_bytes(kept) > 1 << 20
    rest = FileSlice(gone.descriptor, gone.offset + 10, 5, gone.owner)
    del gone
    assert resident_bytes(kept) > 1 << 20
    del rest
    assert resident_bytes(kept) < 1 << 16
    assert content(kept) == b"k"


def test_full_arenas_go_with_their_last_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "ARENA_BYTES", 1 << 20)
    files = MemoryFiles()
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [files.put([bytes(300_000)]) for _ in range(30)]
    assert all(kept)
    descriptors = {part.descriptor for part in kept if part is not None}
    assert len(descriptors) == 10
    assert files.put([bytes(1 << 20), b"x"]) is None
    del kept[:]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_nothing_and_failure_give_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryFiles()
    assert files.put([]) is None
    assert files.put([b""]) is None

    def fail(*arguments: object) -> int:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "pwritev", fail)
    assert files.put([b"x"]) is None
