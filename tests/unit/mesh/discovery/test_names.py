"""Names and TXT records, ours and strangers'."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import ServiceInfo

from mesh.discovery.mdns.names import (
    ADDRESSES_MAX,
    LABEL_BYTES_MAX,
    SERVICE_TYPE,
    TEXT_BYTES_MAX,
    Announcement,
    addresses_untrusted,
    encode_text,
    host_name,
    instance_name,
    network_tag,
    parse_text_untrusted,
)
from mesh.errors import WireError

NODE = bytes(range(32))
OURS = Announcement(network_tag(b"n" * 32), NODE)


def test_text_comes_back() -> None:
    assert parse_text_untrusted(encode_text(OURS)) == OURS


def test_text_holds_tag_and_node_only() -> None:
    assert encode_text(OURS) == b"\x14net=" + OURS.tag.encode() + b"\x45node=" + NODE.hex().encode()


def test_networks_have_tags_of_their_own() -> None:
    assert len(OURS.tag) == 16
    assert network_tag(b"m" * 32) != OURS.tag


def test_unknown_keys_are_skipped_and_the_first_of_a_key_counts() -> None:
    text = encode_text(OURS).replace(b"net=", b"NET=")
    assert parse_text_untrusted(b"\x00\x03v=2\x04flag" + text + b"\x06node=x") == OURS


@pytest.mark.parametrize(
    "text",
    [
        b"",
        encode_text(OURS)[:-1],
        encode_text(OURS)[:21],
        b"\xff",
        encode_text(Announcement("zz" * 8, NODE)),
        encode_text(Announcement(OURS.tag, NODE[1:])),
        encode_text(OURS).replace(b"node=00", b"node=\xff\xff"),
        encode_text(OURS).replace(b"node=0001", b"node=00 1"),
        encode_text(OURS) + b"\x00" * TEXT_BYTES_MAX,
    ],
)
def test_bad_text(text: bytes) -> None:
    with pytest.raises(WireError):
        parse_text_untrusted(text)


@given(
    st.binary(max_size=600)
    | st.builds(lambda a, b: encode_text(OURS)[:a] + b, st.integers(0, 90), st.binary())
)
def test_garbage_raises_only_wire_error(text: bytes) -> None:
    try:
        parse_text_untrusted(text)
    except WireError:
        pass


@given(st.text(max_size=200))
def test_any_name_makes_a_valid_instance(name: str) -> None:
    full = instance_name(name, NODE)
    label = full.removesuffix(f".{SERVICE_TYPE}")
    assert "." not in label
    assert len(label.encode()) <= LABEL_BYTES_MAX
    assert label.endswith(NODE.hex()[:16])
    info = ServiceInfo(SERVICE_TYPE, full, port=1, server=host_name(NODE), properties=encode_text(OURS))
    assert info.text == encode_text(OURS)


def test_names_differ_by_node() -> None:
    other = bytes(31) + b"\x01"
    assert instance_name("garden", NODE) != instance_name("garden", other[::-1])
    assert instance_name("garden", NODE) == f"garden {NODE.hex()[:16]}.{SERVICE_TYPE}"
    assert instance_name("", NODE) == f"{NODE.hex()[:16]}.{SERVICE_TYPE}"


def test_addresses() -> None:
    hosts = [
        "192.168.1.5",
        "fd00::5",
        "fe80::1",
        "fe80::1%2",
        "169.254.1.1",
        "0.0.0.0",
        "::",
        "224.0.0.251",
        "x",
    ]
    hosts += ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.168.1.5", "255.255.255.255"]
    assert addresses_untrusted(hosts, 7000, False) == ["192.168.1.5:7000", "[fd00::5]:7000"]
    assert addresses_untrusted(["127.0.0.1", "::1"], 7000, True) == ["127.0.0.1:7000", "[::1]:7000"]
    assert len(addresses_untrusted((f"10.0.0.{i}" for i in range(200)), 1, False)) == ADDRESSES_MAX


@pytest.mark.parametrize("port", [None, 0, -1, 65536])
def test_bad_port(port: int | None) -> None:
    with pytest.raises(WireError):
        addresses_untrusted(["192.168.1.5"], port, False)
