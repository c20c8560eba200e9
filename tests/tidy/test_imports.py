"""Which module may import what: packages, rooms, no cycles, and I/O only in the shells."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("fwnode", "mesh", "media", "devices")
LIBRARIES = {"mesh", "media", "devices"}  # know nothing of each other, nor of fwnode
ROOMS = {
    "media": (
        "track",
        "bitstream",
        "container",
        "net",
        "ingest",
        "package",
        "transcode",
        "deliver",
        "replicate",
        "archive",
    ),
    "mesh": ("identity", "nat", "link", "discovery", "membership", "directory", "routing"),
}
IO_IMPORTS = {
    "av",
    "fcntl",
    "os",
    "pathlib",
    "random",
    "resource",
    "secrets",
    "select",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "trio",
}
IO_FILES = {"server", "client", "service", "probe", "worker", "store", "reactor"}
IO_PLACES = {"fwnode.agent", "fwnode.demo", "fwnode.cli"}
IO_EXEMPT = {"random.Random"}  # the type of injected randomness; it draws nothing by itself
IO_REASONS = {
    "media.net.tls": "ssl works on memory here; what it reads itself are certificates and file slices",
}


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imported(source: str) -> Iterator[str]:
    """Dotted names that a module imports anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_names(source: str) -> Iterator[str]:
    """As `imported`, without the module that names are taken from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_when_loaded(source: str) -> set[str]:
    """Dotted names that a module imports at its top level, not inside functions."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return set(imported(ast.unparse(tree)))


def package_faults(name: str, source: str) -> list[str]:
    """Imports from a package that this one must not know."""
    own = name.split(".")[0]
    others = set(PACKAGES) - {own}
    if own not in LIBRARIES:
        return []
    return [f"{name} imports {other}" for other in imported(source) if other.split(".")[0] in others]


def room_faults(name: str, source: str) -> list[str]:
    """Imports from a room to the right of the module's own."""
    package, _, rest = name.partition(".")
    order = ROOMS.get(package, ())
    room = rest.split(".")[0]
    if room not in order:
        return []
    faults = []
    for other in imported(source):
        parts = other.split(".")
        to_room = parts[0] == package and len(parts) > 1 and parts[1] in order
        if to_room and order.index(parts[1]) > order.index(room):
            faults.append(f"{name} imports {other}")
    return faults


def io_faults(name: str, source: str) -> list[str]:
    """I/O in a module that is not named for it."""
    may = name.rpartition(".")[2] in IO_FILES or any(
        name == place or name.startswith(f"{place}.") for place in IO_PLACES
    )
    if may or name in IO_REASONS:
        return []
    faults = [
        f"{name} imports {other}"
        for other in imported_names(source)
        if other.split(".")[0] in IO_IMPORTS and other not in IO_EXEMPT
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            faults.append(f"{name}:{node.lineno} opens a file")
    return faults


def cycles(sources: dict[str, str]) -> list[str]:
    """One import cycle, as a list of modules, or nothing."""
    graph = {
        name: {other for other in imported_when_loaded(source) if other in sources and other != name}
        for name, source in sources.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("rule", [package_faults, room_faults, io_faults], ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: object) -> None:
    assert callable(rule)
    faults = [fault for name, path in modules().items() for fault in rule(name, path.read_text())]
    assert not faults, "\n".join(faults)


def test_no_import_cycles() -> None:
    assert not cycles({name: path.read_text() for name, path in modules().items()})


def test_reasons_are_for_modules_that_exist() -> None:
    assert set(IO_REASONS) <= set(modules())


def test_rules_find_what_they_are_for() -> None:
    assert package_faults("media.track.model", "from fwnode import config")
    assert package_faults("mesh.link.wire", "def f():\n    import media.errors")
    assert not package_faults("fwnode.wiring", "import media, mesh")
    assert room_faults("media.ingest.gate", "from media.package import window")
    assert room_faults("media.track.model", "import media.track.ring\nfrom media.net import address")
    assert not room_faults("media.deliver.hls", "from media.track.stream import Stream")
    assert io_faults("media.track.ring", "import time")
    assert io_faults("media.track.ring", "from os import path")
    assert io_faults("media.track.ring", "def f(): return open('x')")
    assert io_faults("media.track.ring", "import random")
    assert not io_faults("media.track.ring", "from random import Random")
    assert not io_faults("media.net.server", "import socket")
    assert not io_faults("fwnode.cli.key", "import os")
    assert cycles({"a": "import b", "b": "from c import x", "c": "import a"})
    assert not cycles({"a": "import b", "b": "def f():\n    import a"})
