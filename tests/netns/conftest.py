"""Labs of network namespaces, and nodes in them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent
sys.path.append(str(FOLDER))  # not packages of the product: made importable for the tests here

from lab import Lab, why_not  # noqa: E402 - found by the line above
from machine import Machine, MakeMachines  # noqa: E402 - found by the line above


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips the test, with the reason, where there can be no namespaces."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def lab(namespaces: None) -> Iterator[Lab]:
    """Six hosts on one bridge."""
    with Lab(6) as made:
        yield made


@pytest.fixture
def machines(lab: Lab, tmp_path: Path, pytestconfig: pytest.Config) -> Iterator[MakeMachines]:
    """Machines of the lab, whose nodes end with the test."""
    plugin: Any = pytestconfig.pluginmanager.get_plugin(str(FOLDER.parent / "conftest.py"))
    made: list[Machine] = []

    def make(count: int) -> list[Machine]:
        hosts = lab.hosts[len(made) :][:count]
        new = [Machine(plugin, host, tmp_path / f"n{host.number}", f"n{host.number}") for host in hosts]
        made.extend(new)
        return new

    try:
        yield make
        for machine in made:
            machine.finish()
    finally:
        for machine in made:
            machine.close()
