"""STUN and NAT facts: what is encoded comes back, answers never amplify, garbage raises only WireError."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.address import numeric_address
from mesh.errors import WireError
from mesh.nat.answerer import BURST, PER_S, StunAnswerer
from mesh.nat.asking import Ask, Asking, Send, Trial
from mesh.nat.facts import (
    FACTS_CHARS_MAX,
    LIFETIME_S_MAX,
    PORT_DELTA_MAX,
    Filtering,
    Mapping,
    NatFacts,
    NatKind,
    encode_facts,
    explain,
    parse_facts_untrusted,
)
from mesh.nat.stun import (
    AMPLIFICATION_MAX,
    ATTRIBUTES_MAX,
    HEADER_BYTES,
    Kind,
    StunMessage,
    encode_binding_indication,
    encode_binding_request,
    encode_binding_success,
    encode_error,
    error_of,
    mapped_address,
    other_address,
    parse_stun_untrusted,
)

TRANSACTIONS = st.binary(min_size=12, max_size=12)
PORTS = st.integers(1, 65535)
ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4), PORTS).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    st.tuples(st.ip_addresses(v=6), PORTS).map(lambda pair: f"[{pair[0]}]:{pair[1]}"),
).filter(lambda address: bool(numeric_address(address)))
ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40)), max_size=8)
FACTS = st.builds(
    NatFacts,
    st.sampled_from(NatKind),
    st.sampled_from(Mapping),
    st.sampled_from(Filtering),
    st.lists(ADDRESSES.map(numeric_address), max_size=2).map(tuple),
    st.none() | st.integers(-PORT_DELTA_MAX, PORT_DELTA_MAX),
    st.none() | st.integers(0, LIFETIME_S_MAX).map(float),
    st.none() | st.booleans(),
    st.sampled_from(["", "pcp", "nat-pmp", "upnp"]),
)


def message(first: int, transaction: bytes, attributes: list[tuple[int, bytes]]) -> bytes:
    body = b"".join(
        type_.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + b" " * (-len(value) % 4)
        for type_, value in attributes
    )
    head = first.to_bytes(2, "big") + len(body).to_bytes(2, "big") + bytes.fromhex("2112a442")
    return head + transaction + body


MESSAGES = st.builds(message, st.integers(0, 0x3FFF), TRANSACTIONS, ATTRIBUTES)
BENT = st.builds(
    lambda data, at, byte: data[: at % len(data)] + bytes([byte]) + data[at % len(data) + 1 :],
    MESSAGES,
    st.integers(0, 1000),
    st.integers(0, 255),
)
GARBAGE = st.one_of(st.binary(max_size=100), MESSAGES, BENT)


def parsed(data: bytes) -> StunMessage | None:
    try:
        return parse_stun_untrusted(data)
    except WireError:
        return None


@given(TRANSACTIONS, ADDRESSES, st.text(max_size=20))
def test_an_answer_tells_the_address(transaction: bytes, address: str, software: str) -> None:
    request = parse_stun_untrusted(encode_binding_request(transaction, software=software))
    answer = encode_binding_success(request, address)
    if answer is None:
        assert request.size == HEADER_BYTES
        assert address.startswith("[")
        return
    assert len(answer) <= AMPLIFICATION_MAX * request.size
    message = parse_stun_untrusted(answer)
    assert (message.kind, message.transaction) == (Kind.SUCCESS, transaction)
    assert mapped_address(message) == numeric_address(address)


@given(st.integers(0, 0x3FFF), TRANSACTIONS, ATTRIBUTES.filter(lambda found: 0x8028 not in dict(found)))
def test_what_is_written_is_read(first: int, transaction: bytes, attributes: list[tuple[int, bytes]]) -> None:
    found = parse_stun_untrusted(message(first, transaction, attributes))
    sealed = next((n for n, (type_, _) in enumerate(attributes) if type_ in (8, 0x1C)), len(attributes))
    assert [tuple(attribute) for attribute in found.attributes[: sealed + 1]] == attributes[: sealed + 1]
    assert (
        first
        == found.method & 0xF
        | (found.method & 0x70) << 1
        | (found.method & 0xF80) << 2
        | (found.kind & 1) << 4
        | (found.kind & 2) << 7
    )


@given(GARBAGE)
def test_garbage(data: bytes) -> None:
    found = parsed(data)
    if found is None:
        return
    assert found.size == len(data)
    assert len(found.attributes) <= ATTRIBUTES_MAX
    for read in (mapped_address(found), other_address(found)):
        assert read is None or numeric_address(read) == read
    error = error_of(found)
    assert error is None or (300 <= error[0] <= 699 and error[1].isprintable())


@given(st.lists(st.tuples(GARBAGE, ADDRESSES), max_size=20))
def test_an_answerer_never_amplifies(packets: list[tuple[bytes, str]]) -> None:
    answerer = StunAnswerer(0.0)
    for data, source in packets:
        answer = answerer.answer(data, source, 0.0)
        if answer is not None:
            assert len(answer) <= AMPLIFICATION_MAX * len(data)
            assert data[0] == 0
            assert parse_stun_untrusted(answer).kind in (Kind.SUCCESS, Kind.ERROR)


@given(MESSAGES, st.integers(300, 699), st.text(max_size=40))
def test_errors_never_amplify(data: bytes, code: int, reason: str) -> None:
    request = parsed(data)
    if request is not None:
        error = encode_error(request, code, reason, request.unknown)
        assert len(error) <= AMPLIFICATION_MAX * request.size
        found = error_of(parse_stun_untrusted(error))
        assert found is not None
        assert found[0] == code


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 2)), max_size=120))
def test_the_rate_for_an_address_holds(asked: list[tuple[float, int]]) -> None:
    answerer = StunAnswerer(0.0)
    given: dict[int, int] = {}
    for now, host in sorted(asked):
        request = encode_binding_request(bytes(12))
        if answerer.answer(request, f"203.0.113.{host}:{7000 + host}", now) is not None:
            given[host] = given.get(host, 0) + 1
            assert given[host] <= BURST + PER_S * now + 1


@given(st.lists(st.tuples(GARBAGE, ADDRESSES, st.integers(0, 2)), max_size=20))
def test_only_the_answer_of_who_was_asked_counts(
    packets: list[tuple[bytes, str, int]],
) -> None:
    transaction = b"0123456789ab"
    asking = Asking(lambda size: transaction)
    ask = Ask(0, "203.0.113.5:7077")

    def trial() -> Trial[None]:
        yield [ask]

    asking.start(trial(), 0.0)
    [sent] = asking.outputs
    assert isinstance(sent, Send)
    lie = encode_binding_success(parse_stun_untrusted(sent.data), "6.6.6.6:6")
    assert lie is not None
    for data, source, socket in packets:
        if source != ask.address:
            asking.receive(socket, data, source, 0.1)
            asking.receive(socket, lie, source, 0.1)
            asking.receive(socket, encode_binding_indication(transaction), source, 0.1)
        asking.receive(socket + 1, lie, ask.address, 0.1)
        if parsed(data) is None or data[8:HEADER_BYTES] != transaction:
            asking.receive(0, data, ask.address, 0.1)
    assert (ask.mapped, ask.looped) == ("", False)
    asking.receive(0, lie, ask.address, 0.2)
    assert ask.mapped == "6.6.6.6:6"


@given(FACTS)
def test_facts_come_back(facts: NatFacts) -> None:
    text = encode_facts(facts)
    assert len(text) <= FACTS_CHARS_MAX
    assert text.isascii()
    assert parse_facts_untrusted(text) == facts
    assert all(line.isprintable() for line in explain(facts, 7077))


@given(
    st.one_of(
        st.text(max_size=140),
        st.tuples(FACTS.map(encode_facts), st.integers(0, 140), st.text(max_size=3)).map(
            lambda bent: bent[0][: bent[1]] + bent[2] + bent[0][bent[1] + 1 :]
        ),
    )
)
def test_garbage_facts(text: str) -> None:
    try:
        facts = parse_facts_untrusted(text)
    except WireError:
        return
    assert parse_facts_untrusted(encode_facts(facts)) == facts
    assert explain(facts)


@given(st.one_of(st.text(max_size=60), ADDRESSES))
def test_numeric_addresses_have_one_spelling(text: str) -> None:
    address = numeric_address(text)
    assert not address or numeric_address(address) == address
