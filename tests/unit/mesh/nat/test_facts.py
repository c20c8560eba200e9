"""NAT facts: kinds, the text in the record, words for people."""

import itertools
from dataclasses import replace

import pytest

from mesh.errors import WireError
from mesh.nat.facts import (
    FACTS_CHARS_MAX,
    PORT_DELTA_MAX,
    Filtering,
    Mapping,
    NatFacts,
    NatKind,
    encode_facts,
    explain,
    kind_of,
    parse_facts_untrusted,
)

V4 = "203.0.113.255:65535"
V6 = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"
LONGEST = NatFacts(
    NatKind.IMPENETRABLE,
    Mapping.DEPENDENT,
    Filtering.DEPENDENT,
    (V4, V6),
    -PORT_DELTA_MAX,
    3600.0,
    False,
    "nat-pmp",
)


@pytest.mark.parametrize(
    ("mapping", "filtering", "delta", "kind"),
    [
        ("", "", None, NatKind.UNKNOWN),
        ("", "d", None, NatKind.UNKNOWN),
        ("", "i", None, NatKind.OPEN),
        ("n", "", None, NatKind.CONSISTENT),
        ("n", "d", None, NatKind.CONSISTENT),
        ("n", "i", None, NatKind.OPEN),
        ("i", "", None, NatKind.CONSISTENT),
        ("i", "i", None, NatKind.OPEN),
        ("d", "", None, NatKind.IMPENETRABLE),
        ("d", "i", 1, NatKind.PREDICTABLE),
    ],
)
def test_kinds(mapping: str, filtering: str, delta: int | None, kind: NatKind) -> None:
    assert kind_of(Mapping(mapping), Filtering(filtering), delta) is kind


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (NatFacts(), ""),
        (NatFacts(NatKind.BLOCKED), "blocked;---;;;;"),
        (
            NatFacts(
                NatKind.CONSISTENT,
                Mapping.INDEPENDENT,
                Filtering.DEPENDENT,
                (V4,),
                lifetime_s=28.0,
                hairpin=False,
                portmap="upnp",
            ),
            f"consistent;ids;;28;upnp;{V4}",
        ),
        (LONGEST, f"impenetrable;dds;-256;3600;nat-pmp;{V4},{V6}"),
    ],
)
def test_text(facts: NatFacts, text: str) -> None:
    assert encode_facts(facts) == text
    assert parse_facts_untrusted(text) == facts


def test_what_does_not_fit_is_left_out() -> None:
    text = encode_facts(NatFacts(NatKind.OPEN, mapped=(V4, V6, V6, V6)))
    assert len(text) <= FACTS_CHARS_MAX
    assert parse_facts_untrusted(text).mapped == (V4, V6, V6)
    three = encode_facts(replace(LONGEST, mapped=(V6, V6, V4)))
    assert len(three) == FACTS_CHARS_MAX  # the longest there are, of two families, always fit
    assert parse_facts_untrusted(three).mapped == (V6, V6)


def test_later_versions_and_shorter_texts() -> None:
    assert parse_facts_untrusted("open") == parse_facts_untrusted("open;") == NatFacts(NatKind.OPEN)
    assert parse_facts_untrusted("open;ni-;;;;;something;new") == NatFacts(
        NatKind.OPEN, Mapping.NONE, Filtering.INDEPENDENT
    )


@pytest.mark.parametrize(
    "text",
    [
        "closed",
        "open;i",
        "open;xyz",
        "open;iiii",
        "open;---;x",
        "open;---;01",
        "open;---;+1",
        "open;---;257",
        "open;---;;-1",
        "open;---;;3601",
        "open;---;;1.5",
        "open;---;;;upnp and more",
        "open;---;;;a b",
        "open;---;;;;nonsense",
        "open;---;;;;relay.example.org:7077",
        "open;---;;;;203.0.113.5:0",
        "open;---;;;;203.0.113.5:07077",
        "open;---;;;;224.0.0.1:7077",
        "open;---;;;;[2001:DB8::5]:7077",
        "open;---;;;;203.0.113.5:7077,",
        "open;---;;;;" + ",".join(["10.0.0.1:1"] * 5),
        "open;\u0661--",
        "open" + ";" * FACTS_CHARS_MAX,
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(WireError):
        parse_facts_untrusted(text)


def test_keepalive() -> None:
    assert [NatFacts(lifetime_s=s).keepalive_s for s in (None, 0.0, 13.0, 18.0, 28.0, 3600.0)] == [
        15.0,
        10.0,
        10.0,
        15.0,
        25.0,
        25.0,
    ]


def test_every_combination_is_explained() -> None:
    for kind, mapping, filtering in itertools.product(NatKind, Mapping, Filtering):
        facts = NatFacts(kind, mapping, filtering, (V4,), 1, 0.0, False)
        said = explain(facts, 7077)
        assert all(line.endswith(".") and line[0].isupper() and len(line) < 200 for line in said)
        helped = [line for line in said if line.startswith("What would help")]
        assert len(helped) == (kind not in (NatKind.OPEN, NatKind.UNKNOWN))
        if kind is not NatKind.UNKNOWN:
            assert said[0].startswith(kind.value.capitalize())


def test_a_home_is_explained() -> None:
    facts = NatFacts(
        NatKind.CONSISTENT, Mapping.INDEPENDENT, Filtering.DEPENDENT, ("203.0.113.5:7077",), hairpin=False
    )
    assert explain(facts, 7077) == [
        "Consistent: the router gives this node one outside address (203.0.113.5:7077) "
        "and lets in answers only.",
        "Direct connections to all nodes work by hole punching; to impenetrable ones they may take "
        "some seconds.",
        "Nodes behind this router reach each other by their LAN addresses only (no hairpin).",
        "What would help: switch on UPnP or PCP in the router, or forward UDP and TCP port 7077 to "
        "this machine.",
    ]
    mapped = NatFacts(NatKind.CONSISTENT, Mapping.INDEPENDENT, portmap="pcp")
    assert explain(mapped)[-1] == "The router opened the mesh port when asked (pcp)."
    assert "second public node" in explain(NatFacts(mapped=(V4,)))[0]
