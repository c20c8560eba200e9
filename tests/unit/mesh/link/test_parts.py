"""The pure parts of a link: knock, certificate, greetings, addresses, limits, refusals, frames."""

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mesh.address import group_of, show_address, split_address
from mesh.errors import Refused, WireError
from mesh.identity.wire import encode
from mesh.link.certificate import SIGNATURE_BYTES, certificate_der, make_certificate, node_of_untrusted
from mesh.link.frame import FRAME_BYTES_MAX, FrameReader, encode_frame
from mesh.link.hello import (
    HELLO_BYTES_MAX,
    ClientHello,
    ClientRefusal,
    HelloReader,
    ServerHello,
    challenge,
    pack,
    parse_answer_untrusted,
    parse_server_hello_untrusted,
    parse_verdict_untrusted,
    refusal,
    verdict,
)
from mesh.link.knock import OtherVersion, check_knock_untrusted, make_knock
from mesh.link.limits import (
    ADDRESSES_MAX,
    BURST,
    PENDING_MAX,
    PENDING_PER_ADDRESS_MAX,
    PER_S,
    ConnectionLimits,
)
from mesh.link.refusals import ROWS_MAX, Refusals

NETWORK = b"n" * 32
KNOCK = make_knock(NETWORK, bytes(16))


def test_knock() -> None:
    check_knock_untrusted(KNOCK, NETWORK)
    assert all(len(label) <= 63 for label in KNOCK.split("."))  # RFC 1035 2.3.4
    assert make_knock(NETWORK, b"1" * 16) != KNOCK


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "www.example.org",
        KNOCK[:-1],
        KNOCK + "x",
        KNOCK.upper(),
        KNOCK.replace("0", "1", 1),
        "v1-" + "0" * 32 + "." + "\u0660" * 32 + ".fwnode",
        "v99999-x.fwnode",
        "x" * 10_000,
    ],
)
def test_no_knock(name: str | None) -> None:
    with pytest.raises(WireError) as caught:
        check_knock_untrusted(name, NETWORK)
    assert not isinstance(caught.value, OtherVersion)


def test_knock_of_others() -> None:
    with pytest.raises(WireError, match="another network"):
        check_knock_untrusted(KNOCK, b"m" * 32)
    with pytest.raises(OtherVersion, match="version 12 "):
        check_knock_untrusted("v12-anything.else.fwnode", NETWORK)


def der_of(key: Any, hashed: Any) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(5).not_valid_before(now).not_valid_after(now)
    return builder.sign(key, hashed).public_bytes(Encoding.DER)


def test_certificate(network: Any) -> None:
    key = network.owner
    pem = make_certificate(key)
    assert pem == make_certificate(key)
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(certificate)
    assert certificate.not_valid_after_utc.year == 9999
    assert node_of_untrusted(certificate.public_bytes(Encoding.DER)) == key.node_id
    private = serialization.load_pem_private_key(pem, None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert private.private_bytes_raw() == key.seed


def test_other_certificates(network: Any) -> None:
    private = ed25519.Ed25519PrivateKey.from_private_bytes(network.owner.seed)
    for der in (der_of(ec.generate_private_key(ec.SECP256R1()), SHA256()), der_of(private, None)):
        with pytest.raises(WireError, match="not that of a node"):
            node_of_untrusted(der)
    own = certificate_der(network.owner)
    for at in range(len(own)):
        changed = own[:at] + bytes((own[at] ^ 1,)) + own[at + 1 :]
        try:
            assert node_of_untrusted(changed) != network.owner.node_id or at >= len(own) - SIGNATURE_BYTES
        except WireError:
            pass
    for der in (None, b"", b"\x30\x82", bytes(5000)):
        with pytest.raises(WireError):
            node_of_untrusted(der)


def unpacked(data: bytes) -> bytes:
    reader = HelloReader()
    reader.feed(data[:4])
    found = reader.feed(data[4:])
    assert found is not None
    assert not reader.wanted
    return found


def test_greetings_there_and_back() -> None:
    server = ServerHello(1, "fwnode 0.1.0", b"chain", bytes(32), "192.0.2.1:5")
    client = ClientHello("fwnode 0.1.0", b"chain", bytes(64), "media", b"argument", "")
    assert parse_server_hello_untrusted(unpacked(pack(server))) == server
    assert parse_answer_untrusted(unpacked(pack(client))) == client
    assert parse_answer_untrusted(unpacked(pack(refusal("no")))) == ClientRefusal("no")
    assert parse_verdict_untrusted(unpacked(pack(verdict("")))) == verdict("")
    assert verdict("").ok
    assert not verdict("no").ok


def test_texts_are_cut_and_made_printable() -> None:
    said = parse_answer_untrusted(unpacked(pack(refusal("\x1b[2J\n" + "é" * 1000))))
    assert isinstance(said, ClientRefusal)
    assert said.reason.startswith("?[2J?é")
    assert len(said.reason) == 200
    hello = ServerHello(1, "a\nb", b"", bytes(32), "\u202e")
    assert parse_server_hello_untrusted(encode(hello)).program == "a?b"
    assert parse_server_hello_untrusted(encode(hello)).observed == "?"


def test_fields_of_newer_versions_are_skipped() -> None:
    newer = encode([True, "", {"more": [1, 2]}])
    assert parse_verdict_untrusted(newer).ok


@pytest.mark.parametrize("size", [0, HELLO_BYTES_MAX + 1, 2**32 - 1])
def test_length_of_greetings(size: int) -> None:
    with pytest.raises(WireError):
        HelloReader().feed(size.to_bytes(4, "big"))


def test_deep_nesting_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        parse_verdict_untrusted(b"\x93\xc3\xa0" + b"\x91" * 8000)
    with pytest.raises(WireError):
        parse_verdict_untrusted(bytes(HELLO_BYTES_MAX + 1))


def test_challenge_names_both_and_the_network() -> None:
    made = {
        challenge(n, b"0" * 32, c, s) for n in (b"1" * 32, b"2" * 32) for c, s in ((b"a", b"b"), (b"b", b"a"))
    }
    assert len(made) == 4


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("192.0.2.1", 80), "192.0.2.1:80"),
        (("::ffff:192.0.2.1", 80, 0, 0), "192.0.2.1:80"),
        (("2001:db8::1", 80, 0, 0), "[2001:db8::1]:80"),
        ("", ""),
        (b"unix", ""),
    ],
)
def test_show_address(address: Any, shown: str) -> None:
    assert show_address(address) == shown
    if shown:
        assert show_address(split_address(shown)) == shown


def test_split_address() -> None:
    assert split_address(" node.example.org:4100 ") == ("node.example.org", 4100)
    for bad in ("[::1]", "[]:1", ":1", "a:-1", "a:\u0661", "x" * 300 + ":1"):
        with pytest.raises(Refused):
            split_address(bad)


def test_group_of() -> None:
    assert group_of("192.0.2.1") != group_of("192.0.2.2")
    assert group_of("2001:db8::1") == group_of("2001:db8::ffff:1%eth0") != group_of("2001:db8:0:1::1")
    assert group_of("no address") == "no address"


def test_limits_of_one_address() -> None:
    limits = ConnectionLimits()
    for _ in range(BURST):
        assert limits.admit("a", 0.0) == ""
        limits.done("a", 0.0, member=False)
    assert "too fast" in limits.admit("a", 0.0)
    assert limits.admit("b", 0.0) == ""
    assert "too fast" in limits.admit("a", 0.5 / PER_S)
    assert limits.admit("a", 1.01 / PER_S) == ""


def test_members_cost_nothing() -> None:
    limits = ConnectionLimits()
    for _ in range(BURST * 3):
        assert limits.admit("a", 0.0) == ""
        limits.done("a", 0.0, member=True)


def test_limits_of_pending() -> None:
    limits = ConnectionLimits()
    for _ in range(PENDING_PER_ADDRESS_MAX):
        assert limits.admit("a", 0.0) == ""
    assert "from this address" in limits.admit("a", 100.0)
    others = [str(number) for number in range(PENDING_MAX - PENDING_PER_ADDRESS_MAX)]
    assert {limits.admit(other, 0.0) for other in others} == {""}
    assert limits.admit("z", 0.0) == "too many connections are being opened"
    limits.done("a", 0.0, member=False)
    assert limits.admit("z", 0.0) == ""


def test_limits_remember_a_bounded_number() -> None:
    limits = ConnectionLimits()
    for number in range(ADDRESSES_MAX + 100):
        limits.admit(str(number), 0.0)
        limits.done(str(number), 0.0, member=False)
    assert limits.pending == 0
    assert len(limits._spent) == ADDRESSES_MAX


def test_refusals_count_and_are_bounded() -> None:
    refusals = Refusals()
    refusals.note("192.0.2.1", None, "no\n", True, 5.9)
    refusals.note("192.0.2.1", None, "no\n", True, 7.0)
    refusals.note("192.0.2.1", b"\1" * 32, "no\n", False, 8.0)
    newest, oldest = refusals.rows()
    assert (oldest.reason, oldest.count, oldest.last_unix_s, oldest.by_us) == ("no?", 2, 7, True)
    assert (newest.node, newest.count) == ("01" * 32, 1)
    for number in range(ROWS_MAX - 1):
        refusals.note(str(number), None, "no", True, 9.0)
    assert len(refusals.rows()) == ROWS_MAX
    assert oldest not in refusals.rows()
    assert newest in refusals.rows()
    assert refusals.total == 3 + ROWS_MAX - 1


def test_longest_frame_and_one_more() -> None:
    reader = FrameReader()
    assert reader.feed(encode_frame(255, bytes(FRAME_BYTES_MAX))) == [(255, bytes(FRAME_BYTES_MAX))]
    header = b"\x01" + (FRAME_BYTES_MAX + 1).to_bytes(3, "big")
    for _ in range(2):
        with pytest.raises(WireError):
            reader.feed(header)
