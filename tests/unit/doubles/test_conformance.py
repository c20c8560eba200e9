"""The conformance document is in step with the tests, and the tests with the list of points."""

import re

import conformance
from livepeer_gateway.checklist import CLIENT, GATEWAY


def test_document_is_in_step() -> None:
    assert conformance.DOCUMENT.read_text() == conformance.document(), (
        "run: .venv/bin/python tests/doubles/conformance.py"
    )


def test_marks_name_points_that_exist() -> None:
    assert set(conformance.collected()) <= set(GATEWAY) | set(CLIENT)


def test_every_point_of_the_gateway_is_checked() -> None:
    found = conformance.collected()
    assert [point for point in GATEWAY if point not in found] == []


def test_marks_are_read_from_sources() -> None:
    text = '@pytest.mark.livepeer("5.2", "C6")\ndef test_x(url):\n    pass\ndef test_y(double):\n    pass\n'
    assert conformance.marks(text) == {"5.2": ["test_x"], "C6": ["test_x"]}
    assert conformance.live_tests(text) == {"test_x"}
    assert conformance.LIVE_SUITE.exists()


def test_links_of_the_guide_lead_somewhere() -> None:
    folder = conformance.DOCUMENT.parent
    texts = {path.name: path.read_text() for path in folder.glob("*.md")}
    headings = {
        name: {
            re.sub(r"[^a-z0-9 -]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        for name, text in texts.items()
    }
    for name, text in texts.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            assert (target or name) in texts, f"{name}: {target}"
            assert not anchor or anchor in headings[target or name], f"{name}: {target}#{anchor}"
