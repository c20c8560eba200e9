"""How code here is written: sizes, names, docstrings, nothing left for later."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("fwnode", "mesh", "media", "devices")
MODULE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
LONG_FUNCTIONS = {  # "path:name" -> why splitting it would hurt
    "media/ingest/rtmp/session.py:__init__": "the session's fields and its table of commands, one a line",
}
BANNED_WORDS = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}
LEFT_FOR_LATER = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
SILENCERS = re.compile(
    r"#\s*(?:type:\s*ignore|noqa)(?P<codes>\[[^]]*\]|:[\s\w,]*)?(?P<reason>\s*[#-]\s*\w.*)?$"
)
OBVIOUS_LINES = 12  # a well-named function this short, signature aside, is read as fast as a description


def sources() -> dict[str, str]:
    """Path below the root to text, for every module of the product."""
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def module_length(path: str, text: str) -> list[str]:
    """Modules that are too long."""
    lines = text.count("\n")
    return [f"{path}: {lines} lines"] if lines > MODULE_LINES_MAX else []


def function_length(path: str, text: str) -> list[str]:
    """Functions that are too long and have no reason for it."""
    faults = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX and f"{path}:{node.name}" not in LONG_FUNCTIONS:
                faults.append(f"{path}:{node.lineno} {node.name}: {lines} lines")
    return faults


def names(path: str, text: str) -> list[str]:
    """Names of modules and classes that say nothing."""
    words = {word: path for part in Path(path).with_suffix("").parts for word in part.split("_")}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            words |= {word.lower(): node.name for word in re.findall(r"[A-Z][a-z]*", node.name)}
    return [f"{path}: {where}" for word, where in words.items() if word in BANNED_WORDS]


def left_for_later(path: str, text: str) -> list[str]:
    """Notes to come back to."""
    return [
        f"{path}:{number} {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if LEFT_FOR_LATER.search(line)
    ]


def docstrings(path: str, text: str) -> list[str]:
    """Public modules, classes and module-level functions without a docstring."""
    tree = ast.parse(text)
    faults = [] if ast.get_docstring(tree) else [f"{path}: no docstring"]
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not node.name.startswith("_") and not ast.get_docstring(node) and not _obvious(node):
            faults.append(f"{path}:{node.lineno} {node.name}: no docstring")
    return faults


def _obvious(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A record of named fields, an enumeration or a function of a few lines says what it is."""
    if isinstance(node, ast.ClassDef):
        return all(
            isinstance(child, ast.Assign | ast.AnnAssign) or _is_property(child) for child in node.body
        )
    return (node.end_lineno or 0) - node.body[0].lineno < OBVIOUS_LINES


def _is_property(node: ast.AST) -> bool:
    """A property, or a method of a typing.Protocol that has a name and types only."""
    return isinstance(node, ast.FunctionDef) and (
        bool(node.decorator_list) or ast.unparse(node.body[0]) == "..."
    )


def silencers(path: str, text: str) -> list[str]:
    """Silenced checks without codes or without a reason."""
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        found = SILENCERS.search(line)
        if found and not (found["codes"] and found["reason"]):
            faults.append(f"{path}:{number} {line.strip()}")
    return faults


RULES: list[Callable[[str, str], list[str]]] = [
    module_length,
    function_length,
    names,
    left_for_later,
    docstrings,
    silencers,
]
BAD: dict[str, tuple[str, str]] = {
    "module_length": ("media/x.py", "x = 1\n" * (MODULE_LINES_MAX + 1)),
    "function_length": ("media/x.py", "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    "names": ("media/stream_manager.py", ""),
    "left_for_later": ("media/x.py", "x = 1  # TODO: y"),
    "docstrings": ("media/x.py", '"""Module."""\ndef f():\n' + "    x = 1\n" * (OBVIOUS_LINES + 1)),
    "silencers": ("media/x.py", "x = f()  # type: ignore[arg-type]"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: Callable[[str, str], list[str]]) -> None:
    faults = [fault for path, text in sources().items() for fault in rule(path, text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_finds_what_it_is_for(rule: Callable[[str, str], list[str]]) -> None:
    assert rule(*BAD[rule.__name__])
    assert not rule("media/track/ring.py", '"""One thing."""\n\n\nclass Ring:\n    """Packets."""\n')


def test_names_of_classes() -> None:
    assert names("media/x.py", "class StreamManager: pass")
    assert not names("media/x.py", "class Managed: pass")


def test_silencers_with_reasons_pass() -> None:
    assert not silencers("x.py", "x = f()  # type: ignore[arg-type]  # the library's stub is wrong")
    assert not silencers("x.py", "x = f()  # noqa: S104 - compared, not bound")


def test_long_functions_exist() -> None:
    assert all((ROOT / entry.partition(":")[0]).exists() for entry in LONG_FUNCTIONS)
