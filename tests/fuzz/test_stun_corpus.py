"""Replays what anybody may send to the mesh port, and what members say of their routers: `good-*` is taken,
`bad-*` raises WireError. The second word names the parser. Cut anywhere or with any byte changed, a file
raises only WireError; whatever it is, a node's answers stay short, and its survey learns nothing from it."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from mesh.errors import WireError
from mesh.nat.answerer import StunAnswerer
from mesh.nat.facts import FACTS_CHARS_MAX, NatFacts, encode_facts, explain, parse_facts_untrusted
from mesh.nat.stun import error_of, mapped_address, other_address, parse_stun_untrusted
from mesh.nat.survey import NatSurvey

CORPUS = sorted((Path(__file__).parent / "stun").iterdir())
CHANGES = (0x01, 0x20, 0x80, 0xFF)
SERVER = "198.51.100.1:7077"
HOME = "203.0.113.5:40000"


def stun(data: bytes) -> None:
    """Everything that is read of a message."""
    message = parse_stun_untrusted(data)
    assert message.size == len(data)
    mapped_address(message), other_address(message), error_of(message)
    assert all(0 <= type_ < 0x8000 for type_ in message.unknown)


def facts(data: bytes) -> None:
    """What is said comes back when said again, and can be explained."""
    found = parse_facts_untrusted(data.decode("utf-8", "replace"))
    again = encode_facts(found)
    assert len(again) <= FACTS_CHARS_MAX
    assert parse_facts_untrusted(again) == found
    assert all(line.isprintable() for line in explain(found, 7077))


PARSERS: dict[str, Callable[[bytes], None]] = {"stun": stun, "facts": facts}


def expected_and_parser(path: Path) -> tuple[str, Callable[[bytes], None]]:
    expected, parser = path.stem.split("-")[:2]
    return expected, PARSERS[parser]


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_replay(path: Path) -> None:
    expected, parse = expected_and_parser(path)
    if expected == "good":
        parse(path.read_bytes())
        return
    with pytest.raises(WireError):
        parse(path.read_bytes())


@pytest.mark.parametrize(
    "path", [path for path in CORPUS if path.stem.startswith("good")], ids=lambda path: path.stem
)
def test_near_misses(path: Path) -> None:
    _, parse = expected_and_parser(path)
    for near in near_misses(path.read_bytes()):
        try:
            parse(near)
        except WireError:
            pass


def near_misses(data: bytes) -> list[bytes]:
    """Cut at each place, and with each byte changed in several ways."""
    found = []
    for at in range(len(data)):
        found.append(data[:at])
        found += [data[:at] + bytes([data[at] ^ change]) + data[at + 1 :] for change in CHANGES]
    return found


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_node_survives(path: Path) -> None:
    """A node in the middle of a survey, to which it all seems to come from the server that it asked."""
    data = path.read_bytes()
    answerer = StunAnswerer(0.0)
    survey = NatSurvey(Random(1), Random(2).randbytes, 0.0)
    survey.set_servers([(SERVER, b"1" * 32), ("198.51.100.2:7077", None)], 0.0)
    survey.on_deadline(0.0)
    survey.outputs()
    for second, near in enumerate([data, *near_misses(data)]):
        for source in (SERVER, HOME, "", "nonsense"):
            assert not survey.receive(0, near, source, 0.1)
            answer = answerer.answer(near, source, float(second))
            assert answer is None or len(answer) <= 2 * len(near)
    assert survey.facts == NatFacts()
    assert survey.outputs() == []
    assert survey.deadline() == 0.25


def test_every_kind_is_there() -> None:
    found = {tuple(path.stem.split("-")[:2]) for path in CORPUS}
    assert found == {(expected, parser) for expected in ("good", "bad") for parser in PARSERS}
