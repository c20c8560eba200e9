import os
from pathlib import Path

import pytest
from fwbench import machine


def test_the_tree_of_a_process_begins_with_it() -> None:
    assert machine.tree(os.getpid())[0] == os.getpid()


def test_memory_is_that_of_living_processes() -> None:
    assert machine.memory_mb(os.getpid()) > 1


@pytest.mark.parametrize("roots", [machine._CGROUP_ROOTS, ()], ids=["cgroup", "proc"])
def test_a_program_is_clocked_and_stopped(
    roots: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_CGROUP_ROOTS", roots)
    program = machine.Program(
        ["sh", "-c", "echo up; cat"], machine.cores()[0], log=tmp_path / "log", pipes=True
    )
    assert program.stdout.readline() == b"up\n"
    assert program.alive()
    assert 0 <= program.cpu_s() < 5
    assert program.stop() < 5
    assert not program.alive()


def test_the_machine_is_described() -> None:
    assert {"processor", "kernel", "nginx", "CPU clock"} <= set(machine.describe())
