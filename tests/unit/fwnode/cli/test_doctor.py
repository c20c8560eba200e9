"""What `fwnode doctor` makes of what the node says."""

from typing import Any

import pytest

from fwnode.cli.doctor import NOT_KNOWN_YET, YOUNG_S, needs, report

STATUS: dict[str, Any] = {"uptime_s": 600.0, "listeners": {"http": "[::]:8080", "mesh": "[::]:7077"}}
MAPPED = {
    "state": "mapped",
    "protocol": "pcp",
    "external": "198.51.100.7:7077",
    "said": "the router maps",
    "gateway": "192.168.1.1",
    "lease_s": 7200.0,
}
NONE = {
    "state": "refused",
    "protocol": "",
    "external": "",
    "gateway": "",
    "lease_s": 0.0,
    "said": "no answer",
}
NAT: dict[str, Any] = {
    "udp": True,
    "kind": "consistent",
    "words": ["Consistent: it does this.", "That allows much.", "What would help: switch on UPnP."],
    "mapping": "one for all destinations",
    "tcp": "closed",
    "servers": 2,
    "portmap": NONE,
}
NETWORK: dict[str, Any] = {"network": "cd" * 32, "links": 2, "seeds": [], "nat": NAT}
SELF: dict[str, Any] = {"name": "attic", "state": "self", "path": "self", "why_relayed": ""}
DIRECT: dict[str, Any] = {
    "name": "cellar",
    "state": "connected",
    "path": "punched",
    "path_since_unix_s": 1000,
    "loss": 0.0,
    "why_relayed": "",
}
RELAYED = DIRECT | {"name": "loft", "path": "relayed via vps", "why_relayed": "UDP is blocked there"}
NO_OPINION = {"trouble": "no public member to ask"}


def nat(**changes: Any) -> dict[str, Any]:
    return NETWORK | {"nat": NAT | changes}


def test_nothing_needs_a_hand() -> None:
    assert needs(STATUS, NETWORK, [SELF, DIRECT]) == []
    assert needs(STATUS, NETWORK | {"network": ""}, [SELF]) == []
    assert needs(STATUS, NETWORK | {"links": 0}, [SELF]) == []  # the first node of a network


@pytest.mark.parametrize(
    ("status", "network", "peers", "fault"),
    [
        ({"listeners": {}}, NETWORK, [SELF], "takes no part"),
        ({}, NETWORK | {"links": 0}, [SELF, DIRECT], "no other node is reached"),
        ({}, NETWORK | {"links": 0, "seeds": ["192.0.2.1:1"]}, [SELF], "no other node is reached"),
        ({}, nat(udp=False), [SELF], "another program has the mesh port for UDP"),
        ({}, nat(kind="blocked"), [SELF], "the router is blocked: switch on UPnP."),
        ({}, nat(kind="impenetrable"), [SELF], "the router is impenetrable: switch on UPnP."),
        ({}, NETWORK, [SELF, RELAYED], "no direct path to loft, relayed via vps: UDP is blocked there"),
        ({}, NETWORK, [SELF, RELAYED | {"why_relayed": ""}], NOT_KNOWN_YET),
    ],
)
def test_what_needs_a_hand(
    status: dict[str, Any], network: dict[str, Any], peers: list[dict[str, Any]], fault: str
) -> None:
    [found] = needs(STATUS | status, network, peers)
    assert fault in found


def test_a_node_that_just_began_may_still_look_for_others() -> None:
    young = STATUS | {"uptime_s": YOUNG_S - 1}
    assert needs(young, NETWORK | {"links": 0}, [SELF, RELAYED]) == []


def test_an_impenetrable_router_that_opened_a_port_is_fine() -> None:
    assert needs(STATUS, nat(kind="impenetrable", portmap=MAPPED), [SELF]) == []


def test_all_is_said_in_words() -> None:
    second = {"said": "some NAT", "mapped": "198.51.100.7:9", "servers": ["192.0.2.1:1", "192.0.2.2:2"]}
    peers = [SELF, DIRECT | {"loss": 0.167}, RELAYED, DIRECT | {"state": "known"}]
    assert report(STATUS, NETWORK, peers, second, 1090.0) == [
        "Router",
        "  Consistent: it does this.",
        "  That allows much.",
        "  What would help: switch on UPnP.",
        "  Others cannot connect to it over TCP.",
        "Port mapping",
        "  None.",
        "  No answer.",
        "Second opinion (pystun3)",
        "  Some NAT, seen at 198.51.100.7:9; asked 192.0.2.1:1 and 192.0.2.2:2.",
        "Paths",
        "  cellar punched for 1 min, 17% of pings lost",
        "  loft relayed via vps for 1 min: UDP is blocked there",
    ]


@pytest.mark.parametrize(
    ("portmap", "says"),
    [
        (MAPPED, "Others are told 198.51.100.7:7077 by pcp at 192.168.1.1, renewed every 1 h 0 min."),
        (MAPPED | {"lease_s": 0.0}, "Others are told 198.51.100.7:7077 by pcp at 192.168.1.1."),
        (MAPPED | {"state": "unusable"}, "there is another router behind that one"),
        (NONE | {"state": "off", "said": "the setting nat.portmap is false"}, "Not asked for."),
        (NONE | {"state": "asking", "said": ""}, "The router has said nothing yet."),
    ],
)
def test_what_the_router_said_about_the_port(portmap: dict[str, Any], says: str) -> None:
    lines = report(STATUS, nat(portmap=portmap), [SELF], NO_OPINION, 0.0)
    told = lines[lines.index("Port mapping") : lines.index("Second opinion (pystun3)")]
    assert any(says in line for line in told)


def test_a_public_host_needs_no_mapping() -> None:
    asking = NONE | {"state": "asking", "said": ""}
    lines = report(STATUS, nat(portmap=asking, mapping="none", tcp=""), [SELF], NO_OPINION, 0.0)
    assert "  Not needed: this node has a public address." in lines
    assert "  None: no public member to ask." in lines and "  No other node is linked." in lines
    assert not any("over TCP" in line for line in lines)


def test_a_node_that_takes_no_part_has_little_to_say() -> None:
    [line] = report(STATUS, NETWORK | {"network": ""}, [SELF], NO_OPINION, 0.0)
    assert "in no network" in line
    assert report(STATUS | {"listeners": {}}, NETWORK, [SELF], NO_OPINION, 0.0) == []
