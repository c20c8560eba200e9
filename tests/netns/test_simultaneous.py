"""Streams between nodes behind real routers, opened over TCP by both ends at the same moment."""

from collections.abc import Iterator

import pytest
from natlab import NatLab, RouterKind, why_no_nat
from stream_lab import linked

pytestmark = pytest.mark.netns

OPEN_S = 1.0  # 0.06 s on an idle machine: most of it is that the caller waits for the holder
FALLBACK_S = 2.0  # one second is waited for TCP; the rest is the other way's
STREAMS = 3
TCP, QUIC = "SecureConnection", "QuicStream"


@pytest.fixture
def internet(namespaces: None) -> Iterator[NatLab]:
    if reason := why_no_nat():
        pytest.skip(reason)
    with NatLab() as made:
        yield made


@pytest.mark.parametrize(
    ("one", "other", "public"),
    [
        (RouterKind.PORT_RESTRICTED, RouterKind.PORT_RESTRICTED, 1),
        (RouterKind.PLAIN_MASQUERADE, RouterKind.PLAIN_MASQUERADE, 1),
        (RouterKind.FULL_CONE, RouterKind.PORT_RESTRICTED, 2),
        (RouterKind.CARRIER, RouterKind.CARRIER, 1),
        (RouterKind.FIREWALLED, RouterKind.PLAIN_MASQUERADE, 1),
        (RouterKind.UDP_BLOCKED, RouterKind.PORT_RESTRICTED, 1),
    ],
)
def test_streams_go_over_tcp(internet: NatLab, one: RouterKind, other: RouterKind, public: int) -> None:
    with linked(internet, one, other, public) as ends:
        for node, peer in (ends, ends[::-1]):
            for _ in range(STREAMS):
                event = node.stream(peer)
                assert "error" not in event, event
                assert event["way"] == TCP and event["remote"], event
                assert event["open_s"] < OPEN_S, event
                assert event["arrived"] > 0


@pytest.mark.parametrize("public", [1, 2], ids=["found out", "told by two members"])
def test_a_router_that_draws_ports_costs_one_stream_a_second(internet: NatLab, public: int) -> None:
    kinds = (RouterKind.SYMMETRIC_RANDOM, RouterKind.PORT_RESTRICTED)
    with linked(internet, *kinds, public) as (symmetric, restricted):
        for node, peer in ((symmetric, restricted), (restricted, symmetric)):
            first, second = node.stream(peer), node.stream(peer)
            assert first["open_s"] < FALLBACK_S, first
            assert second["open_s"] < OPEN_S, second
            for event in (first, second):
                assert "error" not in event, event
                assert event["way"] == QUIC or not event["remote"], event
                assert event["counters"]["tcp_opened"] == 0
