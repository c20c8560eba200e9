"""Writes docs/livepeer/conformance.md from the marks on the tests: `python tests/doubles/conformance.py`.

A test says what it checks by `@pytest.mark.livepeer("5.2", "C6")`. Nothing is run here: a point is
checked when a test has it, and that test is in the suite. Tests of the double count for a gateway,
all others for fwnode's client.
"""

import ast
import sys
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
DOCUMENT = ROOT / "docs" / "livepeer" / "conformance.md"
LIVE_SUITE = ROOT / "tests" / "interop" / "test_gateway_conformance.py"
OF_THE_DOUBLE = (LIVE_SUITE, ROOT / "tests" / "unit" / "doubles")
sys.path.append(str(FOLDER))

from livepeer_gateway.checklist import CLIENT, GATEWAY  # noqa: E402 - found by the line above

HEAD = """\
# Conformance

<!-- Written by tests/doubles/conformance.py from the marks on the tests. -->

What is checked, and against what. No Livepeer gateway can be had from a package registry, and none
was at hand: **everything here ran against the double in `tests/doubles/livepeer_gateway`**, which
follows a reading of go-livepeer 0.9.1 and of the FrameWorks fork. A reading can be wrong.

Against a gateway of your own:

    FWNODE_GATEWAY_URL=http://gateway:8935 .venv/bin/python -m pytest tests/interop/test_gateway_conformance.py

Tests that need a gateway that fails when told to, or a setting of its own, are skipped by name then.
It must be without a webhook and have room for some forty sessions (`-maxSessions 100`): those of a run
count for two minutes more. That way of running was itself tried with the double at the URL.

In the tables, *unit* is a test of the double's parts, *request* one by HTTP against the running
double, *live* one that a gateway of your own is asked, too. The client's column counts tests that
push through fwnode's client.
"""


def marks(text: str) -> dict[str, list[str]]:
    """Points to names of tests, from a test file's source."""
    found = defaultdict(list)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for point in _points(node):
                found[point].append(node.name)
    return dict(found)


def _points(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    return [
        str(argument.value)
        for mark in node.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.livepeer"
        for argument in mark.args
        if isinstance(argument, ast.Constant)
    ]


def live_tests(text: str) -> set[str]:
    """Tests of the suite that any gateway can be asked: they take `url` and no double."""
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and "url" in {argument.arg for argument in node.args.args}
    }


def collected() -> dict[str, dict[str, set[str]]]:
    """Points to kinds of check ("unit", "request", "live", "client") to names of tests."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.livepeer" not in text:
            continue
        live = live_tests(text) if path == LIVE_SUITE else set()
        for point, names in marks(text).items():
            for name in names:
                found[point][_kind(path, name in live)].add(name)
    return found


def _kind(path: Path, live: bool) -> str:
    if not any(path == place or place in path.parents for place in OF_THE_DOUBLE):
        return "client"
    return "live" if live else "request" if path == LIVE_SUITE else "unit"


def document() -> str:
    """The whole of docs/livepeer/conformance.md."""
    found = collected()
    lines = [HEAD, "## The gateway\n", "| point | what | double | live gateway | client |"]
    lines.append("|---|---|---|---|---|")
    for point, what in GATEWAY.items():
        lines.append(f"| {point} | {what} | {_double(found[point])} | {_live(found[point])} |")
        lines[-1] += f" {_client(found[point])} |"
    lines += [
        "\n## A client\n",
        "| point | what | client, against the double | live gateway |",
        "|---|---|---|---|",
    ]
    for point, what in CLIENT.items():
        lines.append(f"| {point} | {what} | {_client(found[point])} | not run |")
    return "\n".join(lines) + "\n"


def _double(kinds: dict[str, set[str]]) -> str:
    named = [f"{kind} {len(kinds[kind])}" for kind in ("unit", "request", "live") if kinds.get(kind)]
    return "passes: " + ", ".join(named) if named else "not checked"


def _live(kinds: dict[str, set[str]]) -> str:
    return "not run; can be asked" if kinds.get("live") else "not run; cannot be asked"


def _client(kinds: dict[str, set[str]]) -> str:
    names = kinds.get("client", set())
    return f"passes: {len(names)}" if names else "-"


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(document())
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
