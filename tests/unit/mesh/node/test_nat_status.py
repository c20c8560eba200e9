"""What a node shows of the routers before it, and what it makes of what its router said."""

import hashlib
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio

from mesh.errors import Unavailable
from mesh.identity.key import SecretKey
from mesh.nat.classic.service import Classic
from mesh.nat.facts import Filtering, Mapping, NatFacts, NatKind
from mesh.nat.portmap.model import PortMapping
from mesh.nat.stun import encode_binding_request
from mesh.node.mapping.service import RouterMapping
from mesh.node.model import SecondOpinion
from mesh.node.nat import NO_UDP, Portmap, nat_status
from mesh.node.servers import opinion_servers

OPENED = "198.51.100.7:7077"
PUBLIC = PortMapping("pcp", OPENED, True, True, 7200.0, "192.168.1.1", "it maps")
CARRIER = PortMapping("upnp", "100.64.3.4:7077", True, True, 0.0, "192.168.1.1", "it maps")
UDP_ONLY = PortMapping("nat-pmp", OPENED, False, True, 60.0, "192.168.1.1", "it maps UDP")
KEY = SecretKey(hashlib.sha256(b"a node").digest())


def test_what_the_router_does_is_told_in_words_and_in_figures(lab: Any) -> None:
    node = lab.add("first")
    node.core.set_udp(
        NatFacts(
            NatKind.CONSISTENT, Mapping.INDEPENDENT, Filtering.DEPENDENT, (OPENED,), None, 25.0, False, "pcp"
        ),
        lab.now,
    )
    said = nat_status(node.core, Portmap(True, PUBLIC), {"nat_punched": 3}, udp=True)
    assert (said.udp, said.kind, said.tcp, said.servers) == (True, "consistent", "", 0)
    assert (said.mapping, said.filtering) == ("one for all destinations", "lets answers in")
    assert (said.mapped, said.lifetime_s, said.hairpin, said.port_delta) == ([OPENED], 25.0, False, None)
    assert said.words[0].startswith("Consistent: ") and any("hole punching" in line for line in said.words)
    assert said.counters == {"nat_punched": 3}
    assert (said.portmap.state, said.portmap.protocol, said.portmap.external) == ("mapped", "pcp", OPENED)
    assert (said.portmap.said, said.portmap.lease_s) == ("it maps", 7200.0)


@pytest.mark.parametrize(
    ("portmap", "says", "state", "said"),
    [
        (Portmap(), "the setting is off", "off", "the setting is off"),
        (Portmap(True), "", "asking", ""),
        (Portmap(True, None, "no router answers"), "", "refused", "no router answers"),
        (Portmap(True, CARRIER), "", "unusable", "it maps"),
        (Portmap(True, UDP_ONLY), "", "unusable", "it maps UDP"),
    ],
)
def test_without_a_mapping_it_says_why(lab: Any, portmap: Portmap, says: str, state: str, said: str) -> None:
    shown = nat_status(lab.add("first").core, portmap, {}, udp=True, says=says).portmap
    assert (shown.state, shown.said) == (state, said)
    assert portmap.announced == ""


def test_a_node_without_the_port_says_so_and_guesses_nothing(lab: Any) -> None:
    said = nat_status(lab.add("first").core, Portmap(), {}, udp=False)
    assert (said.udp, said.words) == (False, [NO_UDP])


def test_whether_others_can_connect(lab: Any) -> None:
    first, second = lab.add("first"), lab.add("second")
    second.dialable = False
    lab.join(second, first)
    assert nat_status(first.core, Portmap(), {}, udp=True).tcp == "open"
    shown = nat_status(second.core, Portmap(), {}, udp=True)
    assert (shown.tcp, shown.servers) == ("closed", 1)


def test_two_public_hosts_are_asked_for_an_opinion(lab: Any) -> None:
    first, *_, last = lab.small("first", "second", "third", "fourth")
    assert opinion_servers(last.core) == ["192.0.2.1:7077", "192.0.2.2:7077"]
    assert len(set(opinion_servers(first.core))) == 2
    assert opinion_servers(lab.add("alone").core) == []


class Router:
    """Stands for `keep_mappings`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self.ended = 0
        self.say: Callable[[PortMapping | None], None]
        self.refuse: Callable[[str], None]
        monkeypatch.setattr("mesh.nat.portmap.service.keep_mappings", self.keep)

    async def keep(self, port: int, on_change: Any, *, on_trouble: Any, secret: bytes) -> None:
        self.asked.append((port, secret))
        self.say, self.refuse = on_change, on_trouble
        try:
            await trio.sleep_forever()
        finally:
            self.ended += 1


async def test_what_the_router_says_is_kept_announced_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router(monkeypatch)
    told: list[tuple[str, str]] = []
    notes: list[str] = []
    mapping = RouterMapping(
        7077, KEY, lambda *said: told.append(said), lambda event, facts: notes.append(event)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mapping.run)
        await asked(router)
        router.refuse("no router answers")
        assert mapping.said == Portmap(True, None, "no router answers")
        router.say(PUBLIC)
        assert (mapping.said, told) == (Portmap(True, PUBLIC), [(OPENED, "pcp")])
        router.say(PUBLIC)
        router.say(CARRIER)
        assert told[1:] == [("", "")]
        router.say(UDP_ONLY)
        router.say(None)
        assert len(told) == 2 and mapping.said == Portmap(True)
        router.say(PUBLIC)
        router.say(None)
        assert told[2:] == [(OPENED, "pcp"), ("", "")]
        nursery.cancel_scope.cancel()
    assert router.ended == 1
    assert notes == [
        *("no port mapping", "port mapped", "port mapped", "port mapped", "port mapping lost"),
        *("port mapped", "port mapping lost"),
    ]


async def test_a_node_asks_with_a_secret_of_its_own_that_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router(monkeypatch)
    for name in (b"a node", b"a node", b"another"):
        key = SecretKey(hashlib.sha256(name).digest())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(RouterMapping(7077, key, lambda *_: None, lambda *_: None).run)
            await asked(router, router.ended)
            nursery.cancel_scope.cancel()
    (_, first), (_, again), (_, other) = router.asked
    assert first == again != other and len(first) == 32
    assert first != KEY.seed


async def asked(router: Router, ended: int = 0) -> None:
    """Wait for the import, which takes a thread."""
    with trio.fail_after(10):
        while len(router.asked) <= ended:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_running_node_announces_what_its_router_opened(
    loopback: Any, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    router = Router(monkeypatch)
    node = loopback.make("first")
    node._parts = replace(node._parts, no_portmap="" if wanted else "not wanted here")
    async with loopback.run(node):
        if wanted:
            await asked(router)
            router.say(PUBLIC)
            assert OPENED in node.addresses()
            assert node.status().nat.portmap.state == "mapped"
            router.say(None)
            assert OPENED not in node.addresses()
        else:
            said = node.status().nat.portmap
            assert (said.state, said.said) == ("off", "not wanted here")
    assert len(router.asked) == router.ended == wanted


async def test_the_router_is_not_asked_by_who_did_not_say_so(loopback: Any) -> None:
    assert loopback.make("first").status().nat.portmap.said


async def test_a_second_opinion_comes_from_public_members_only(
    loopback: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def classify(server: str, other: str = "") -> Any:
        async def answer() -> Classic:
            return Classic("some kind of cone", f"{server} and {other}", 3)

        return answer()

    monkeypatch.setattr("mesh.nat.classic.service.classify", classify)
    node = loopback.make("first")
    with pytest.raises(Unavailable, match="no member with a public"):
        await node.second_opinion()
    two = ["192.0.2.1:1", "192.0.2.2:2"]
    monkeypatch.setattr("mesh.node.service.opinion_servers", lambda core: two)
    assert await node.second_opinion() == SecondOpinion(
        "some kind of cone", "192.0.2.1:1 and 192.0.2.2:2", two, 3
    )


async def test_what_udp_does_is_counted_by_name(loopback: Any) -> None:
    node = loopback.make("first")
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    assert node.status().nat.udp is False
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run, [node.sock], [datagrams])
        said = node.status().nat
        assert said.udp
        names = ("nat_punches", "nat_gave_up", "nat_knocks", "stun_answered", "stun_too_fast")
        names += ("survey_surveys", "survey_spoofed", "udp_datagrams_in", "udp_dropped_full")
        assert {said.counters[name] for name in names} == {0}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.sendto(encode_binding_request(bytes(12), software="a test"), datagrams.getsockname())
            with trio.fail_after(10):
                while not node.status().nat.counters["stun_answered"]:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.01)
        assert node.status().nat.counters["udp_datagrams_in"] == 1
        nursery.cancel_scope.cancel()
