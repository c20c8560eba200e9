"""Pages of keys: stable, within a notice, and nothing of a key that others need not know."""

import pytest

from fwnode.keys import SHARED_MAX, Keyring, StreamKey, make_key, maker_digest
from fwnode.sharing.foreign import ForeignKeys
from fwnode.sharing.pages import Pages, parse_page_untrusted, stream_keys
from mesh.errors import WireError
from mesh.identity.claim import Claim, make_chain, sign_statement
from mesh.identity.key import SecretKey
from mesh.identity.notice import PAYLOAD_BYTES_MAX, SLOTS, Notice, make_notice

MAKER = SecretKey(bytes([1]) * 32)
OTHER = SecretKey(bytes([2]) * 32)


def key(number: int, pattern: str = "*", *, local: bool = False) -> tuple[str, StreamKey]:
    return make_key(number.to_bytes(20, "big"), pattern, "a label", 1_800_000_000 + number, local=local)


def keys(count: int, pattern: str = "*") -> list[StreamKey]:
    return [key(number, pattern)[1] for number in range(count)]


def notice(payload: bytes, maker: SecretKey = MAKER, slot: int = 0) -> Notice:
    claim = Claim(maker.node_id, 1, 0, 1 << 40, 1, "attic")
    chain = make_chain(MAKER.node_id, (sign_statement(MAKER.node_id, claim, MAKER),))
    return make_notice(maker, chain, slot, 1, payload)


def ids(payloads: list[bytes]) -> list[set[str]]:
    return [{shared.id for shared in parse_page_untrusted(payload)} for payload in payloads if payload]


def test_as_many_as_may_be_shared_fit_with_the_longest_patterns() -> None:
    payloads = Pages(MAKER.node_id).payloads(keys(SHARED_MAX, "x" * 63))
    assert len(payloads) == SLOTS
    assert all(len(payload) <= PAYLOAD_BYTES_MAX for payload in payloads)
    assert sum(map(len, ids(payloads))) == SHARED_MAX


def test_what_finds_no_room_is_left_out() -> None:
    payloads = Pages(MAKER.node_id).payloads(keys(2 * SHARED_MAX, "x" * 63))
    assert SHARED_MAX <= sum(map(len, ids(payloads))) < 2 * SHARED_MAX


def test_one_change_changes_one_page() -> None:
    pages, all_keys = Pages(MAKER.node_id), keys(300)
    before = pages.payloads(all_keys)
    without = pages.payloads(all_keys[:10] + all_keys[11:])
    assert sum(old != new for old, new in zip(before, without, strict=True)) == 1
    filled = pages.payloads([*all_keys[:10], *all_keys[11:], key(1000)[1]])
    assert sum(old != new for old, new in zip(without, filled, strict=True)) == 1
    assert pages.payloads([]) == [b""] * SLOTS


def test_a_restart_says_the_same() -> None:
    pages, all_keys = Pages(MAKER.node_id), keys(200)
    pages.payloads(all_keys)
    before = pages.payloads(all_keys[5:])
    again = Pages(MAKER.node_id)
    for slot, payload in enumerate(before):
        if payload:
            again.remember(slot, payload)
    assert again.payloads(all_keys[5:]) == before
    again.remember(0, b"of a later version")
    assert sum(map(len, ids(again.payloads(all_keys[5:])))) == 195


def test_local_keys_and_labels_are_not_told() -> None:
    payloads = Pages(MAKER.node_id).payloads([key(1)[1], key(2, local=True)[1]])
    assert ids(payloads) == [{key(1)[1].id}]
    assert b"label" not in payloads[0] and key(1)[1].digest not in payloads[0]


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x92\x02\x90", b"\x92\x01\x91\x90", b"\xff" * 100])
def test_garbage_is_a_wire_error(payload: bytes) -> None:
    with pytest.raises(WireError):
        parse_page_untrusted(payload)


@pytest.mark.parametrize("pattern", ["[a]", "sk_abc", "A", ""])
def test_what_cannot_be_a_key_is_left_out(pattern: str) -> None:
    bad = StreamKey("aaaaaaaa", bytes(32), pattern, "", 0)
    badly_named = StreamKey("../../..", bytes(32), "*", "", 0)
    payload = Pages(MAKER.node_id).payloads([bad, badly_named, key(1)[1]])[0]
    assert [shared.pattern for shared in parse_page_untrusted(payload)] == ["*"]


def foreign(payload: bytes, maker: SecretKey = MAKER) -> list[StreamKey]:
    return stream_keys(parse_page_untrusted(payload), maker.node_id, "attic")


def test_a_key_is_recognised_elsewhere() -> None:
    text, made = key(1, "cam-*")
    ring = Keyring()
    ring.set_foreign(foreign(Pages(MAKER.node_id).payloads([made])[0]))
    found = ring.match(text)
    assert found is not None
    assert (found.id, found.pattern, found.maker, found.maker_name) == (
        made.id,
        "cam-*",
        MAKER.node_id,
        "attic",
    )
    assert found.name == f"{made.id}@{MAKER.node_id.hex()[:16]}"
    assert ring.match(key(2)[0]) is None


def test_a_copied_digest_is_worth_nothing() -> None:
    """Neither to narrow another's key, nor to widen it, nor to be revoked in its place."""
    text, made = key(1, "cam-*")
    page = Pages(MAKER.node_id).payloads([made])[0]
    copied = [StreamKey(one.id, one.digest, "other", "", 0, maker=OTHER.node_id) for one in foreign(page)]
    ring = Keyring()
    ring.set_foreign([*copied, *foreign(page)])
    found = ring.match(text)
    assert found is not None and found.maker == MAKER.node_id
    assert ring.set_foreign(copied) == {found.name}
    assert ring.match(text) is None
    # As its own, with the id of this node's key: what it takes back is its own.
    ring.add(made)
    assert ring.set_foreign([]) == {copied[0].name} and copied[0].name != made.name
    assert ring.match(text) == made


def test_this_nodes_own_notice_is_not_foreign_and_pages_are_read_once() -> None:
    payload = Pages(MAKER.node_id).payloads([key(1)[1]])[0]
    one = notice(payload)
    assert ForeignKeys(MAKER.node_id).accepted([one], lambda digest: False) == []
    elsewhere = ForeignKeys(OTHER.node_id)
    first = elsewhere.accepted([one], lambda digest: False)
    assert elsewhere.accepted([one], lambda digest: False)[0] is first[0]
    assert elsewhere.accepted([notice(b"of a later version", slot=1)], lambda digest: False) == []


def test_the_owner_revokes_one_key() -> None:
    made = keys(3)
    payload = Pages(MAKER.node_id).payloads(made)[0]
    struck = maker_digest(made[1].digest, MAKER.node_id)
    left = ForeignKeys(OTHER.node_id).accepted([notice(payload)], lambda digest: digest == struck)
    assert [one.id for one in left] == [made[0].id, made[2].id]


def test_of_too_many_the_first_are_accepted() -> None:
    payload = Pages(MAKER.node_id).payloads(keys(20))[0]
    assert len(ForeignKeys(OTHER.node_id).accepted([notice(payload)], lambda digest: False, most=5)) == 5
