"""One home's mapper and a router, on virtual time."""

from collections.abc import Callable
from typing import Any

import pytest

from mesh.nat.portmap.mapper import (
    ASK_GAP_S,
    RETRY_FIRST_S,
    RETRY_MAX_S,
    RETRY_S,
    WATCH_S,
    UpnpLook,
    UpnpMap,
    UpnpRemove,
)
from mesh.nat.portmap.model import LEASE_MIN_S, UpnpGrant

MakeHome = Callable[..., Any]
PORT = 7077
TCP, UDP = 6, 17
BOTH = {TCP: PORT, UDP: PORT}
GRANT = UpnpGrant("203.0.113.7", PORT, tcp=True, udp=True, lease_s=7200.0, said="")
SILENT_S = 2.0  # three requests unanswered


def by_upnp(make_home: MakeHome, grant: UpnpGrant = GRANT, **options: Any) -> Any:
    """A home whose router speaks UPnP only."""
    home = make_home(silent=True, **options)
    home.wait(SILENT_S)
    assert home.upnp == [UpnpMap(PORT)]
    home.upnp.clear()
    home.mapper.upnp_mapped(grant, home.now)
    home.settle()
    return home


class TestMapping:
    @pytest.mark.parametrize("protocol", ["pcp", "nat-pmp"])
    def test_both_transports_at_once(self, make_home: MakeHome, protocol: str) -> None:
        home = make_home(pcp=protocol == "pcp")
        found = home.mapping
        assert (found.protocol, found.external) == (protocol, f"203.0.113.7:{PORT}")
        assert found.tcp and found.udp and found.usable
        assert (found.lease_s, found.gateway) == (7200.0, "192.168.1.1")
        assert f"maps TCP and UDP port {PORT} of 203.0.113.7" in found.said
        assert home.router.mapped == BOTH
        assert set(home.sent_at) == {home.now}

    def test_a_lost_request_is_sent_again(self, make_home: MakeHome) -> None:
        home = make_home(silent=True)
        home.wait(0.3)
        home.router.silent = False
        home.wait(0.5)
        assert home.mapping.protocol == "pcp"
        assert [round(at - home.sent_at[0], 2) for at in home.sent_at] == [
            0,
            0,
            0.25,
            0.25,
            0.25,
            0.75,
            0.75,
            0.75,
        ]

    def test_a_router_that_throws_pcp_away(self, make_home: MakeHome) -> None:
        """It answers the question in NAT-PMP that goes with the repetition."""
        home = make_home(pcp=False)
        assert home.mapping.protocol == "nat-pmp"
        home = make_home(silent=True)
        home.router.silent, home.router.pcp = False, False
        home.wait(0.3)
        assert home.mapping.protocol == "nat-pmp"

    def test_a_late_refusal_of_the_version_does_not_end_nat_pmp(self, make_home: MakeHome) -> None:
        """To PCP's opcode MAP, which is NAT-PMP's for UDP."""
        home = make_home(pcp=False)
        home.mapper.receive(bytes([0, 0x81, 0, 1, 0, 0, 0, 9]), home.now)
        home.settle()
        assert home.mapping.udp

    def test_only_one_transport(self, make_home: MakeHome) -> None:
        home = make_home(refuses={UDP: 9})
        assert home.mapping.tcp
        assert not home.mapping.udp
        assert "UDP: it does not map this transport" in home.mapping.said
        home.wait(7200.0)
        assert home.router.mapped == {TCP: PORT}

    def test_upnp_is_asked_last(self, make_home: MakeHome) -> None:
        home = by_upnp(make_home)
        assert home.mapping.protocol == "upnp"
        assert home.mapping.external == f"203.0.113.7:{PORT}"

    def test_nothing_listens_there(self, make_home: MakeHome) -> None:
        """An ICMP error saves the wait."""
        home = make_home(silent=True)
        home.mapper.unreachable(home.now)
        home.settle()
        assert home.upnp == [UpnpMap(PORT)]

    @pytest.mark.parametrize(
        "host", ["192.168.0.2", "100.64.0.1", "10.0.0.1", "0.0.0.0", "127.0.0.1", "224.0.0.1"]
    )
    @pytest.mark.parametrize("pcp", [True, False])
    def test_an_external_address_that_leads_nowhere(self, make_home: MakeHome, host: str, pcp: bool) -> None:
        home = make_home(external_host=host, pcp=pcp)
        assert home.mapping.external == f"{host}:{PORT}"
        assert not home.mapping.usable
        assert "there is another router before it" in home.mapping.said


class TestSamePort:
    """TCP and UDP are to have the same port outside."""

    @pytest.mark.parametrize("pcp", [True, False])
    @pytest.mark.parametrize("taken", [{(TCP, PORT)}, {(UDP, PORT)}, {(TCP, PORT), (UDP, PORT)}])
    def test_one_of_them_is_taken(self, make_home: MakeHome, taken: set[tuple[int, int]], pcp: bool) -> None:
        home = make_home(taken=set(taken), pcp=pcp)
        assert home.mapping.external == f"203.0.113.7:{PORT + 1}"
        assert home.mapping.tcp and home.mapping.udp
        assert home.router.mapped == {TCP: PORT + 1, UDP: PORT + 1}
        assert len(home.told) == 1

    def test_there_is_no_such_port(self, make_home: MakeHome) -> None:
        """TCP it is then, and UDP's is given back."""
        odd = {(TCP, port) for port in range(PORT, PORT + 20) if port % 2}
        even = {(UDP, port) for port in range(PORT, PORT + 20) if not port % 2}
        home = make_home(taken=odd | even)
        assert home.mapping.tcp
        assert not home.mapping.udp
        assert set(home.router.mapped) == {TCP}
        assert home.mapping.external.endswith(f":{home.router.mapped[TCP]}")

    def test_the_port_stays_the_same(self, make_home: MakeHome) -> None:
        home = make_home(taken={(TCP, PORT)})
        home.router.taken.clear()
        home.router.restart(home.now)
        home.wait(WATCH_S)
        assert home.router.mapped == {TCP: PORT + 1, UDP: PORT + 1}
        assert len(home.told) == 1


class TestUpkeep:
    @pytest.mark.parametrize("pcp", [True, False])
    def test_renewed_at_half_of_the_lease(self, make_home: MakeHome, pcp: bool) -> None:
        home = make_home(pcp=pcp, watch_s=1e9)
        began = len(home.sent_at)
        home.wait(3599.0)
        assert len(home.sent_at) == began
        home.wait(2.0)
        assert len(home.sent_at) == began + 2
        home.wait(24 * 3600.0)
        assert home.router.mapped == BOTH
        assert len(home.told) == 1

    def test_a_tiny_lease_does_not_make_a_flood(self, make_home: MakeHome) -> None:
        home = make_home(watch_s=1e9, granted_s=1)
        home.wait(600.0)
        assert len(home.sent_at) < 2 * 600 / (LEASE_MIN_S / 2) + 20

    def test_unanswered_renewals_then_lost(self, make_home: MakeHome) -> None:
        home = make_home(watch_s=1e9)
        home.router.silent = True
        home.wait(7199.0)
        assert len(home.told) == 1
        home.wait(5.0)
        assert home.told[1:] == [None]
        assert home.upnp == [UpnpMap(PORT)]

    def test_a_renewal_late_in_the_lease(self, make_home: MakeHome) -> None:
        home = make_home(watch_s=1e9)
        home.router.silent = True
        home.wait(6000.0)
        home.router.silent = False
        home.wait(3600.0)
        assert len(home.told) == 1
        assert home.mapper.mapping is not None

    def test_a_renewal_that_is_refused(self, make_home: MakeHome) -> None:
        """Everything else is tried, then it is lost."""
        home = make_home()
        home.router.refuses = {TCP: 2, UDP: 2}
        home.wait(3700.0)
        assert home.upnp == [UpnpMap(PORT)]
        home.mapper.upnp_failed("no answer", home.now)
        home.settle()
        assert home.told[1] is None
        assert "PCP: it does not allow it, NAT-PMP: " in home.told[2]

    @pytest.mark.parametrize("pcp", [True, False])
    def test_a_restarted_router_is_asked_again(self, make_home: MakeHome, pcp: bool) -> None:
        home = make_home(pcp=pcp)
        home.wait(10.0)
        home.router.restart(home.now)
        home.wait(WATCH_S)
        assert home.router.mapped == BOTH
        assert len(home.told) == 1
        assert home.mapper.remapped == 1

    def test_a_restarted_router_that_says_so(self, make_home: MakeHome) -> None:
        home = make_home(watch_s=1e9)
        home.wait(100.0)
        home.router.restart(home.now)
        home.mapper.announced(home.now)
        home.wait(0.01)
        assert home.router.mapped == BOTH

    def test_a_router_that_comes_back_without_pcp(self, make_home: MakeHome) -> None:
        home = make_home()
        home.wait(100.0)
        home.router.restart(home.now)
        home.router.refuses = {TCP: 2, UDP: 2}
        home.wait(WATCH_S + 5)
        home.mapper.upnp_mapped(GRANT, home.now)
        home.settle()
        assert [mapping.protocol for mapping in home.told] == ["pcp", "upnp"]

    def test_a_flood_of_announcements(self, make_home: MakeHome) -> None:
        """Anybody on the LAN can send them: they make it ask, at most every ASK_GAP_S."""
        home = make_home()
        home.wait(100.0)
        before = len(home.sent_at)
        for _ in range(1000):
            home.mapper.announced(home.now)
            home.wait(0.1)
        assert len(home.sent_at) - before <= 100 / ASK_GAP_S + 2
        assert len(home.told) == 1

    def test_an_epoch_that_jumps_about(self, make_home: MakeHome) -> None:
        """Each answer looks like a restart: still no flood, and the mapping stays."""
        home = make_home()
        epochs = iter(range(10**9, 0, -1000))
        home.tamper = lambda data: data[:8] + next(epochs).to_bytes(4) + data[12:]
        home.wait(600.0)
        assert len(home.sent_at) < 600
        assert home.router.mapped == BOTH
        assert len(home.told) == 1

    def test_the_external_address_changes(self, make_home: MakeHome) -> None:
        home = make_home(pcp=False)
        home.router.external_host = "203.0.113.99"
        home.wait(WATCH_S + 1)
        assert home.mapping.external == f"203.0.113.99:{PORT}"
        assert len(home.told) == 2


class TestUpnp:
    def test_renewed_at_half_of_the_lease(self, make_home: MakeHome) -> None:
        home = by_upnp(make_home, watch_s=1e9)
        home.wait(3601.0)
        assert home.upnp == [UpnpMap(PORT)]
        home.mapper.upnp_mapped(GRANT, home.now)
        home.settle()
        assert len(home.told) == 1
        home.wait(3000.0)
        assert len(home.upnp) == 1

    def test_looked_for_and_mapped_again(self, make_home: MakeHome) -> None:
        home = by_upnp(make_home)
        home.wait(WATCH_S + 1)
        assert home.upnp == [UpnpLook()]
        home.mapper.upnp_seen(True, home.now)
        home.wait(WATCH_S + 1)
        assert home.upnp == [UpnpLook(), UpnpLook()]
        home.mapper.upnp_seen(False, home.now)
        home.settle()
        assert home.upnp[2:] == [UpnpMap(PORT)]
        home.mapper.upnp_mapped(GRANT, home.now)
        assert len(home.told) == 1

    def test_gone_and_not_given_again(self, make_home: MakeHome) -> None:
        home = by_upnp(make_home)
        home.wait(WATCH_S + 1)
        home.mapper.upnp_seen(False, home.now)
        home.mapper.upnp_failed("no answer", home.now)
        home.wait(1.0)
        assert home.told[1:] == [None]

    def test_a_permanent_mapping(self, make_home: MakeHome) -> None:
        home = by_upnp(
            make_home, UpnpGrant("203.0.113.7", PORT, tcp=True, udp=False, lease_s=0.0, said="UDP: no")
        )
        assert home.mapping.lease_s == 0
        assert home.mapping.said.endswith("; UDP: no")
        for _ in range(100):
            home.wait(WATCH_S + 1)
            home.mapper.upnp_seen(True, home.now)
        assert set(home.upnp) == {UpnpLook()}
        assert len(home.told) == 1

    def test_what_pcp_refused_is_over(self, make_home: MakeHome) -> None:
        home = make_home(refuses={TCP: 2, UDP: 2})
        home.mapper.upnp_mapped(GRANT, home.now)
        home.settle()
        assert (
            home.mapping.said == f"the router 192.168.1.1 maps TCP and UDP port {PORT} of 203.0.113.7 by UPnP"
        )

    def test_one_request_at_a_time(self, make_home: MakeHome) -> None:
        home = by_upnp(make_home)
        home.wait(7000.0)
        assert home.upnp == [UpnpLook()]

    def test_another_port(self, make_home: MakeHome) -> None:
        home = by_upnp(
            make_home, UpnpGrant("203.0.113.7", 40000, tcp=True, udp=True, lease_s=7200.0, said="")
        )
        assert home.mapping.external == "203.0.113.7:40000"
        home.wait(WATCH_S + 1)
        home.mapper.upnp_seen(False, home.now)
        home.settle()
        assert home.upnp[-1] == UpnpMap(40000)


class TestFailure:
    def failed(self, make_home: MakeHome, **options: Any) -> Any:
        home = make_home(**options)
        home.wait(SILENT_S)
        home.mapper.upnp_failed("no answer", home.now)
        home.settle()
        return home

    def test_said_once_in_words(self, make_home: MakeHome) -> None:
        home = self.failed(make_home, silent=True)
        assert home.told == [
            "the router 192.168.1.1 maps no port (PCP: no answer, NAT-PMP: no answer, UPnP: no answer): "
            "switch on UPnP or NAT-PMP there, or have it forward TCP and UDP port 7077 to 192.168.1.2"
        ]
        for _ in range(5):
            home.wait(RETRY_S + SILENT_S)
            home.mapper.upnp_failed("no answer", home.now)
            home.settle()
        assert len(home.told) == 1
        assert len(home.upnp) == 6

    def test_retries_get_rarer(self, make_home: MakeHome) -> None:
        home = self.failed(make_home, silent=True)
        waits = []
        for _ in range(6):
            waits.append(home.mapper.deadline() - home.now)
            home.wait(waits[-1] + SILENT_S)
            home.mapper.upnp_failed("no answer", home.now)
        assert waits == [RETRY_FIRST_S, 60.0, 120.0, 240.0, RETRY_S, RETRY_S]

    def test_somebody_switches_it_on(self, make_home: MakeHome) -> None:
        home = self.failed(make_home, silent=True)
        home.router.silent = False
        home.wait(RETRY_FIRST_S)
        assert home.mapping.protocol == "pcp"

    def test_the_routers_wish_when_to_ask_again(self, make_home: MakeHome) -> None:
        home = self.failed(make_home, refuses={TCP: 8, UDP: 8})
        assert "PCP: it has no resources left, NAT-PMP: " in home.told[0]
        assert home.mapper.deadline() - home.now == 30.0

    def test_not_for_ever(self, make_home: MakeHome) -> None:
        home = make_home(silent=True)
        home.router.silent, home.router.refuses = False, {TCP: 8, UDP: 8}
        home.tamper = lambda data: data[:4] + b"\xff" * 4 + data[8:] if data[0] == 2 else data
        home.wait(SILENT_S)
        home.mapper.upnp_failed("no answer", home.now)
        assert home.mapper.deadline() - home.now == RETRY_MAX_S

    def test_a_router_that_announces_itself_is_asked(self, make_home: MakeHome) -> None:
        home = self.failed(make_home, silent=True)
        for _ in range(4):
            home.wait(RETRY_S)
            home.mapper.upnp_failed("no answer", home.now)
        home.router.silent = False
        home.mapper.announced(home.now)
        home.wait(RETRY_FIRST_S)
        assert home.mapping.protocol == "pcp"

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data[:3],
            lambda data: b"\7" + data[1:],
            lambda data: data[:24] + b"x" * 12 + data[36:],  # another's nonce
            lambda data: data[:42] + b"\0\0" + data[44:],  # no port
            lambda data: data[:4] + bytes(4) + data[8:],  # no lease
            lambda data: data * 30,
        ],
    )
    def test_answers_that_are_none(self, make_home: MakeHome, change: Callable[[bytes], bytes]) -> None:
        home = make_home(silent=True)
        home.router.silent, home.router.nat_pmp, home.tamper = False, False, change
        home.wait(SILENT_S)
        assert home.upnp == [UpnpMap(PORT)]
        assert home.mapper.mapping is None


class TestStop:
    @pytest.mark.parametrize("pcp", [True, False])
    def test_removed(self, make_home: MakeHome, pcp: bool) -> None:
        home = make_home(pcp=pcp)
        home.mapper.stop(home.now)
        assert not home.mapper.stopped
        home.settle()
        assert home.mapper.stopped
        assert home.router.mapped == {}
        assert home.mapper.deadline() is None

    def test_what_was_asked_for_a_moment_ago_is_removed(self, make_home: MakeHome) -> None:
        home = make_home(silent=True)
        home.router.silent = False
        home.mapper.stop(home.now)
        home.settle()
        assert home.mapper.stopped

    def test_a_silent_router_is_given_up(self, make_home: MakeHome) -> None:
        home = make_home()
        home.router.silent = True
        home.mapper.stop(home.now)
        home.wait(SILENT_S)
        assert home.mapper.stopped

    def test_by_upnp(self, make_home: MakeHome) -> None:
        home = by_upnp(make_home)
        home.mapper.stop(home.now)
        home.settle()
        assert home.upnp == [UpnpRemove()]
        assert not home.mapper.stopped
        home.mapper.upnp_removed()
        assert home.mapper.stopped

    def test_while_upnp_is_asked(self, make_home: MakeHome) -> None:
        home = make_home(silent=True)
        home.wait(SILENT_S)
        home.mapper.stop(home.now)
        home.mapper.upnp_mapped(GRANT, home.now)
        home.settle()
        assert home.upnp == [UpnpMap(PORT), UpnpRemove()]
        assert home.told == []

    def test_nothing_to_remove(self, make_home: MakeHome) -> None:
        home = TestFailure().failed(make_home, silent=True)
        home.mapper.stop(home.now)
        assert home.mapper.stopped
        home.mapper.stop(home.now)
        home.mapper.receive(b"late", home.now)
        assert home.mapper.outputs() == []
