"""Whole nodes for the tests of this folder, and what is published to them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent
# Not packages of the product: made importable for the tests here.
sys.path += [str(FOLDER), str(FOLDER.parent / "bench"), str(FOLDER.parent / "doubles")]

from clips import Clips  # noqa: E402 - found by the line above
from live_node import LiveNode, StartNode  # noqa: E402 - found by the line above

DRAIN_S = 0.2  # viewers by HLS count for a while after they went, and a stop would wait for them


class Nodes:
    """Starts nodes in folders of their own; at the end each must have behaved."""

    def __init__(self, folder: Path, running_node: Any) -> None:
        self._folder = folder
        self._running_node = running_node
        self._nodes: list[LiveNode] = []

    def start(self, *options: str, data_dir: Path | None = None, **settings: object) -> LiveNode:
        """A StartNode: `start("--demo", ingest__open=True)`."""
        settings.setdefault("drain_s", DRAIN_S)
        folder = data_dir or self._folder / f"node{len(self._nodes)}"
        given = [
            part
            for key, value in settings.items()
            for part in ("--set", f"{key.replace('__', '.')}={str(value).lower()}")
        ]
        node = LiveNode(self._running_node(folder, *options, *given))
        self._nodes.append(node)
        return node

    def finish(self) -> None:
        failures = []
        for node in self._nodes:
            try:
                node.finish()
            except AssertionError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]


@pytest.fixture(scope="session")
def running_node(pytestconfig: pytest.Config) -> Any:
    """The class RunningNode; conftest.py is a plugin of pytest and no importable module."""
    plugin = pytestconfig.pluginmanager.get_plugin(str(FOLDER.parent / "conftest.py"))
    assert plugin is not None
    return plugin.RunningNode


@pytest.fixture
def start(tmp_path: Path, running_node: Any) -> Iterator[StartNode]:
    """Starts nodes that end with the test."""
    nodes = Nodes(tmp_path, running_node)
    yield nodes.start
    nodes.finish()


@pytest.fixture(scope="module")
def start_for_module(tmp_path_factory: pytest.TempPathFactory, running_node: Any) -> Iterator[StartNode]:
    """Starts nodes that end with the module."""
    nodes = Nodes(tmp_path_factory.mktemp("nodes"), running_node)
    yield nodes.start
    nodes.finish()


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Encoded once for all."""
    return Clips(tmp_path_factory.mktemp("clips"))
