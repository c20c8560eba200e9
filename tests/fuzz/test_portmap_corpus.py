"""Replays what a router, or anybody on the LAN in its name, may send: `good-*` is taken, `bad-*` raises
WireError. The second word names the parser. Cut anywhere or with any byte changed, a file raises only
WireError, and no file ends or stops the mapper."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.errors import WireError
from mesh.nat.portmap.mapper import Changed, Mapper, Send, UpnpMap
from mesh.nat.portmap.model import UpnpGrant
from mesh.nat.portmap.natpmp import NatPmp
from mesh.nat.portmap.pcp import Pcp
from mesh.nat.portmap.probe import best_gateway_untrusted
from mesh.nat.portmap.ssdp import parse_answer_untrusted

OWN, GATEWAY, PORT = "192.168.1.2", "192.168.1.1", 7077
NONCE = b"0123456789ab"
CORPUS = sorted((Path(__file__).parent / "portmap").iterdir())
CHANGES = (0x01, 0x20, 0x80, 0xFF)
CHANGED_PLACES_MAX = 200  # of a file; the others are of a kind with them
HOUR_S = 3600.0
SENDS_MAX = 7200  # in an hour of a router that always says the same and announces itself without end

PARSERS: dict[str, Callable[[bytes], object]] = {
    "pcp": Pcp(OWN, PORT, NONCE).parse_untrusted,
    "natpmp": NatPmp(PORT).parse_untrusted,
    "ssdp": lambda data: parse_answer_untrusted(data, GATEWAY),
    "route": lambda data: best_gateway_untrusted(data.decode("latin-1")),
}


def expected_and_parser(path: Path) -> tuple[str, Callable[[bytes], object]]:
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
    data = path.read_bytes()
    step = -(-len(data) // CHANGED_PLACES_MAX) or 1
    for at in range(0, len(data), step):
        for near in (data[:at], *(data[:at] + bytes([data[at] ^ x]) + data[at + 1 :] for x in CHANGES)):
            try:
                parse(near)
            except WireError:
                pass


@pytest.mark.parametrize("upnp", [True, False])
@pytest.mark.parametrize(
    "path",
    [path for path in CORPUS if path.stem.split("-")[1] in ("pcp", "natpmp")],
    ids=lambda path: path.stem,
)
def test_a_mapper_survives(path: Path, upnp: bool) -> None:
    """All that it hears is that, after each request and between them, for an hour."""
    data, now, sends = path.read_bytes(), 0.0, 0
    mapper = Mapper(port=PORT, own=OWN, gateway=GATEWAY, nonce=NONCE, now=now)
    while now < HOUR_S:
        for output in mapper.outputs():
            match output:
                case Send():
                    sends += 1
                    mapper.receive(data, now)
                case UpnpMap() if upnp:
                    mapper.upnp_mapped(UpnpGrant("203.0.113.7", PORT, True, True, 7200.0, ""), now)
                case UpnpMap():
                    mapper.upnp_failed("no answer", now)
                case Changed(mapping):
                    assert mapping == mapper.mapping
                case _:
                    mapper.upnp_seen(True, now)
        mapper.receive(data, now)
        mapper.announced(now)
        deadline = mapper.deadline()
        now = max(now, now + 30.0 if deadline is None else deadline)
        mapper.on_deadline(now)
    assert sends < SENDS_MAX, sends
    mapper.stop(now)
    mapper.upnp_removed()
    while (deadline := mapper.deadline()) is not None:
        mapper.on_deadline(deadline)
    assert mapper.stopped


def test_every_kind_is_there() -> None:
    found = {tuple(path.stem.split("-")[:2]) for path in CORPUS}
    assert found == {(expected, parser) for expected in ("good", "bad") for parser in PARSERS}
