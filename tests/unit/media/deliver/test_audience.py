"""Counting HLS viewers."""

from media.deliver import audience
from media.deliver.audience import Audience


def count(publisher) -> int:
    return publisher.stream.viewers.get("hls", 0)


def test_a_viewer_counts_from_its_second_request_until_it_is_silent(publisher, clock):
    people = Audience()
    people.seen(publisher.stream, "a", 100.0)
    assert count(publisher) == 0
    people.seen(publisher.stream, "a", 101.0)
    people.seen(publisher.stream, "a", 102.0)
    assert count(publisher) == 1
    people.sweep(102.0 + audience.GONE_S + 0.1)
    assert count(publisher) == 0 and len(people) == 0


def test_sessions_are_counted_apart(publisher):
    people = Audience()
    for now in (100.0, 101.0):
        for session in ("a", "b", "c"):
            people.seen(publisher.stream, session, now)
    assert count(publisher) == 3


def test_requests_sweep_by_themselves(publisher):
    people = Audience()
    for now in (100.0, 101.0):
        people.seen(publisher.stream, "a", now)
    people.seen(publisher.stream, "b", 200.0)
    assert len(people) == 1 and count(publisher) == 0


def test_a_crowd_beyond_the_bound_is_not_remembered(publisher, monkeypatch):
    monkeypatch.setattr(audience, "TRACKED_MAX", 10)
    people = Audience()
    for number in range(50):
        people.seen(publisher.stream, str(number), 100.0)
    assert len(people) == 10
