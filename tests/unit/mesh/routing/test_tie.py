"""Hashes that break ties."""

from collections import Counter

from mesh.routing.tie import order, spread

KEYS = [bytes([number]) * 32 for number in range(64)]


def test_equal_candidates_are_chosen_by_about_as_many() -> None:
    chosen = Counter(min(KEYS[:4], key=lambda other: spread(node, "garden", other)) for node in KEYS)
    assert set(chosen) == set(KEYS[:4])
    assert max(chosen.values()) < len(KEYS) // 2


def test_a_stream_has_its_own_order() -> None:
    assert sorted(KEYS, key=lambda node: order(node, "a")) != sorted(KEYS, key=lambda node: order(node, "b"))
    assert spread(KEYS[0], "a", KEYS[1]) != spread(KEYS[0], "b", KEYS[1])
    assert all(0.0 <= spread(node, "a", KEYS[0]) < 1.0 for node in KEYS)
