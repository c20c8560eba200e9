"""Parsers of the gossip core: what is encoded comes back, garbage raises only WireError, machines survive."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.directory.facts import KINDS, Load, parse_fact_untrusted, payload
from mesh.directory.gossip import Gossip
from mesh.directory.record import KIND_MAX, parse_record_untrusted, sign_record
from mesh.directory.table import Directory, Offered
from mesh.errors import WireError
from mesh.membership.message import (
    BATCH_MAX,
    Adopt,
    Adopted,
    Beat,
    Compare,
    Content,
    ForwardJoin,
    Have,
    Join,
    Message,
    Part,
    Prune,
    Push,
    Range,
    Shuffle,
    Shuffled,
    Vouched,
    Want,
    encode,
    parse_message_untrusted,
    pushes,
)
from mesh.membership.suspicion import (
    parse_accusation_untrusted,
    parse_vouch_untrusted,
    sign_accusation,
    sign_vouch,
)

NETWORK = b"n" * 32
PEER = b"p" * 32
U64 = st.integers(0, 2**64 - 1)
I63 = st.integers(0, 2**63 - 1)
NODE = st.binary(min_size=32, max_size=32)


class Signer:
    def __init__(self, node_id: bytes) -> None:
        self.node_id = node_id

    def sign(self, message: bytes) -> bytes:
        return Random(self.node_id + message).randbytes(64)


def verify(node_id: bytes, message: bytes, signature: bytes) -> bool:
    return Signer(node_id).sign(message) == signature


IDS = st.lists(U64, max_size=20)
SAMPLE = st.lists(NODE, max_size=4)
BLOBS = st.lists(st.binary(max_size=100), max_size=4)
TTL = st.integers(0, 8)
BITS = st.integers(0, 60)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Push, BLOBS, BLOBS, st.booleans()),
    st.builds(Have, IDS, st.booleans()),
    st.builds(Want, IDS, st.booleans()),
    st.builds(Prune),
    st.builds(Beat, st.booleans(), U64),
    st.builds(Join),
    st.builds(ForwardJoin, NODE, TTL),
    st.builds(Adopt, st.booleans()),
    st.builds(Adopted, SAMPLE),
    st.builds(Part),
    st.builds(Shuffle, TTL, SAMPLE, SAMPLE),
    st.builds(Shuffled, SAMPLE, SAMPLE),
    st.builds(Compare, st.lists(st.builds(Range, BITS, U64, U64, I63), max_size=5)),
    st.builds(Content, BITS, U64, IDS),
    st.builds(Vouched, st.binary(max_size=100)),
)


@given(MESSAGES)
def test_messages_come_back(message: Message) -> None:
    assert parse_message_untrusted(encode(message)) == message


@given(st.binary(max_size=200))
def test_garbage_is_a_wire_error(data: bytes) -> None:
    for parse in (
        parse_message_untrusted,
        parse_record_untrusted,
        lambda blob: parse_vouch_untrusted(blob, NETWORK, lambda *_: True),
        lambda blob: parse_accusation_untrusted(blob, NETWORK, lambda *_: True),
        *[lambda blob, shape=shape: parse_fact_untrusted(shape, blob) for shape in KINDS],
    ):
        try:
            parse(data)
        except WireError:
            pass


@given(MESSAGES, st.data())
def test_damaged_messages_parse_or_are_wire_errors(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(encode(message))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    try:
        parse_message_untrusted(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))
    except WireError:
        pass


@given(NODE, I63, st.integers(1, KIND_MAX), I63, st.binary(max_size=300))
def test_records_come_back(owner: bytes, generation: int, kind: int, version: int, body: bytes) -> None:
    record = sign_record(Signer(owner), NETWORK, generation, kind, version, body)
    assert parse_record_untrusted(record.blob) == record
    for cut in (0, 63, 64, len(record.blob) - 1):
        try:
            parse_record_untrusted(record.blob[:cut])
        except WireError:
            continue
        raise AssertionError("a cut record was taken")


@given(NODE, NODE, I63, I63, st.lists(NODE, max_size=6), st.booleans())
def test_accusations_come_back(
    accuser: bytes, subject: bytes, generation: int, sequence: int, others: list[bytes], final: bool
) -> None:
    vouch = sign_vouch(Signer(subject), NETWORK, generation, sequence, [accuser, *others])
    assert parse_vouch_untrusted(vouch.blob, NETWORK, verify) == vouch
    accusation = sign_accusation(Signer(accuser), NETWORK, vouch, final)
    assert parse_accusation_untrusted(accusation.blob, NETWORK, verify) == accusation


@given(st.lists(st.binary(max_size=8000), max_size=40), st.lists(st.binary(max_size=3000), max_size=40))
@settings(max_examples=30)
def test_pushes_carry_everything(records: list[bytes], accusations: list[bytes]) -> None:
    parsed = [parse_message_untrusted(data) for data in pushes(records, accusations, aside=True)]
    assert all(isinstance(push, Push) and push.aside and len(push.records) <= BATCH_MAX for push in parsed)
    assert [blob for push in parsed for blob in push.records] == records
    assert [blob for push in parsed for blob in push.accusations] == accusations


@given(st.lists(st.tuples(*[st.integers(1, 4)] * 4), max_size=30))
def test_any_order_of_records_gives_the_same_directory(steps: list[tuple[int, int, int, int]]) -> None:
    records = [
        sign_record(Signer(bytes([owner]) * 32), NETWORK, generation, kind, version, b"")
        for owner, generation, kind, version in steps
    ]
    contents = []
    for order in (records, records[::-1], sorted(records, key=lambda record: record.id)):
        directory = Directory(lambda record: True)
        for record in order:
            assert directory.offer(record, 0.0) is not Offered.FORGED
        contents.append((set(directory), directory.range_fingerprint(0, 0)))
        for bits in (4, 8, 12):
            split = [directory.range_fingerprint(bits, prefix) for prefix in range(2**bits)]
            assert sum(count for _, count in split) == len(directory)
    assert contents[0] == contents[1] == contents[2]


@given(st.lists(st.one_of(MESSAGES.map(encode), st.binary(max_size=60)), max_size=15), st.booleans())
@settings(max_examples=60)
def test_a_machine_takes_anything(messages: list[bytes], is_neighbour: bool) -> None:
    gossip = Gossip(Signer(b"m" * 32), NETWORK, verify, Random(1), 1, 0.0)
    gossip.publish(1, b"me", 0.0)
    gossip.link_up(PEER, 0.0)
    if is_neighbour:
        gossip.receive(PEER, encode(Adopt(True)), 0.0)
    now = 0.0
    for data in messages:
        now += 0.3
        try:
            gossip.receive(PEER, data, now)
        except WireError:
            gossip.link_up(PEER, now + 61)
        gossip.on_deadline(now)
        assert gossip.deadline() > now
        for output in gossip.outputs():
            assert output is not None
    assert gossip.directory.record(b"m" * 32, 1) is not None


@given(st.builds(Load, *[st.integers(0, 10**9)] * 2, st.floats(0, 1), *[st.integers(0, 10**4)] * 3))
def test_facts_come_back(load: Load) -> None:
    assert parse_fact_untrusted(Load, payload(load)) == load
