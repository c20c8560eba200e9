"""Messages about membership: what is encoded comes back, anything else raises only WireError."""

import hashlib
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.errors import WireError
from mesh.identity.catalogue import Catalogue
from mesh.identity.claim import Chain
from mesh.identity.invite import Terms, enrol, make_invite
from mesh.identity.key import SecretKey
from mesh.identity.membership import Membership, found_network
from mesh.identity.notice import make_notice
from mesh.identity.revocation import Revocation, Revoked, make_revocation
from mesh.identity.spread import Spread, Tell
from mesh.identity.spread_message import (
    Buckets,
    Digest,
    Fact,
    Ids,
    Message,
    Need,
    NoticeBatch,
    Renew,
    Renewal,
    RevocationBatch,
    Show,
    UseBatch,
    encode_message,
    parse_message_untrusted,
    split_ids,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine is shared
NOW = 1_800_000_000


def key(name: str) -> SecretKey:
    return SecretKey(hashlib.sha256(name.encode()).digest())


OWNER = key("owner")
OWN = found_network(OWNER, key("node").node_id, "node", NOW)
INVITE = make_invite(
    OWNER,
    OWNER.node_id,
    Terms(uses=3),
    enrolment_seed=key("invite").seed,
    seeds=("node.example.org:4100",),
    now_unix_s=NOW,
)
CHAINS = [enrol(INVITE, key(name).node_id, name, NOW + at).chain for at, name in enumerate("abcdefgh")]
PEER = CHAINS[0]
REVOCATIONS = [make_revocation(OWNER, Revoked(bytes([at]) * 32, NOW, at)) for at in range(4)]
NOTICES = [
    make_notice(key(name), chain, 0, NOW * 1000, b"says") for name, chain in zip("abc", CHAINS, strict=False)
]

ID = st.binary(min_size=16, max_size=16)
IDS = st.lists(ID, max_size=5).map(b"".join)
FACT = st.sampled_from(list(Fact))
COUNT = st.integers(0, 1 << 32)
CHAIN = st.sampled_from([chain.data for chain in CHAINS]) | st.binary(max_size=50)
NOTICE = st.sampled_from([one.data for one in NOTICES]) | st.binary(max_size=50)
REVOCATION = st.sampled_from([one.data for one in REVOCATIONS]) | st.binary(max_size=50)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Digest, ID, COUNT, ID, COUNT, ID, COUNT),
    st.builds(NoticeBatch, st.lists(NOTICE, max_size=4)),
    st.builds(Buckets, FACT, ID.map(lambda one: one * 256)),
    st.builds(Ids, FACT, st.binary(max_size=1), IDS),
    st.builds(Need, FACT, IDS),
    st.builds(RevocationBatch, st.lists(REVOCATION, max_size=4)),
    st.builds(UseBatch, st.lists(CHAIN, max_size=4)),
    st.builds(Renew),
    st.builds(Renewal, CHAIN, st.text(max_size=200)),
    st.builds(Show, CHAIN),
)


@given(MESSAGES)
def test_messages_come_back(message: Message) -> None:
    assert parse_message_untrusted(encode_message(message)) == message


@given(st.binary(max_size=300))
def test_garbage_is_a_wire_error(data: bytes) -> None:
    try:
        parse_message_untrusted(data)
    except WireError:
        pass


@given(MESSAGES, st.data())
def test_damaged_messages_parse_or_are_wire_errors(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(encode_message(message))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_message_untrusted(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))
    except WireError:
        pass


@given(st.lists(st.one_of(MESSAGES.map(encode_message), st.binary(max_size=60)), max_size=12))
@unhurried
def test_a_machine_takes_anything(messages: list[bytes]) -> None:
    membership = Membership(OWN)
    membership.learn_use(PEER, NOW)
    spread = Spread(membership, OWNER, Random(1), 0.0)
    other = CHAINS[1]
    spread.link_up(PEER.node_id, PEER, 0.0)
    spread.link_up(other.node_id, other, 0.0)
    now = 0.0
    for data in messages:
        now += 3.0
        try:
            spread.receive(PEER.node_id, data, now, NOW + now)
        except WireError:
            spread.link_up(PEER.node_id, PEER, now)
        spread.on_deadline(now, NOW + now)
        assert spread.deadline() > now
        for output in spread.outputs():
            if isinstance(output, Tell):
                parse_message_untrusted(output.data)
                assert output.peer in (PEER.node_id, other.node_id)
    assert membership.own is OWN


@given(st.permutations(CHAINS), st.permutations(REVOCATIONS), st.integers(0, 8), st.integers(0, 4))
@unhurried
def test_two_nodes_end_alike(
    chains: list[Chain], revocations: list[Revocation], cut_uses: int, cut_revocations: int
) -> None:
    nodes = [Membership(OWN), Membership(PEER)]
    for at, membership in enumerate(nodes):
        for chain in (chains[:cut_uses], chains[cut_uses:])[at]:
            membership.learn_use(chain, NOW)
        for one in (revocations[:cut_revocations], revocations[cut_revocations:])[at]:
            membership.learn_revocation(one)
    spreads = {membership.node_id: Spread(membership, None, Random(1), 0.0) for membership in nodes}
    a, b = spreads
    spreads[a].link_up(b, PEER, 0.0)
    spreads[b].link_up(a, OWN, 0.0)
    busy = True
    while busy:
        busy = False
        for source, spread in spreads.items():
            for output in spread.outputs():
                if isinstance(output, Tell):
                    busy = True
                    spreads[output.peer].receive(source, output.data, 0.1, NOW)
    for membership in nodes:
        assert len(membership.revocations) == len(REVOCATIONS)
        assert [chain.claim.name for chain in membership.uses.chains()] == ["a", "b", "c"]


@given(st.lists(ID, unique=True, max_size=40), st.integers(0, 40))
def test_catalogues_differ_where_their_facts_do(facts: list[bytes], cut: int) -> None:
    whole, part = Catalogue(facts), Catalogue(facts[:cut])
    differing = set(whole.differing(part.bucket_fingerprints()))
    lacking = set(whole.facts) - set(part.facts)
    assert differing == {one[:1] for one in lacking}
    assert (whole.fingerprint == part.fingerprint) == (not lacking)
    assert split_ids(b"".join(whole.with_prefix(b""))) == sorted(whole.facts)
