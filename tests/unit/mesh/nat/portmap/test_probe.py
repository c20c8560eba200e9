from pathlib import Path

import pytest

from mesh.errors import WireError
from mesh.nat.portmap import probe
from mesh.nat.portmap.probe import best_gateway_untrusted, default_route

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def line(
    *,
    to: str = "00000000",
    via: str = "0101A8C0",
    flags: str = "0003",
    metric: str = "100",
    mask: str = "0" * 8,
) -> str:
    return f"eth0\t{to}\t{via}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def test_the_default_route_with_the_lowest_metric() -> None:
    others = line(to="0001A8C0", via="00000000", flags="0001", metric="0", mask="00FFFFFF")
    text = HEAD + others + line(via="0201A8C0", metric="600") + line() + line(via="0301A8C0", metric="1024")
    assert best_gateway_untrusted(text) == "192.168.1.1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD,
        HEAD + line(flags="0001"),  # no gateway: a tunnel
        HEAD + line(flags="0002"),  # down
        HEAD + line(to="0001A8C0"),
        HEAD + line(mask="00FFFFFF"),
        HEAD + line(via="xyz"),
        HEAD + line(via="F" * 20),
        HEAD + line(metric="x"),
        HEAD + "eth0 00000000",
    ],
)
def test_no_default_route(text: str) -> None:
    with pytest.raises(WireError):
        best_gateway_untrusted(text)


def test_what_this_host_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "ROUTES", tmp_path / "route")
    assert default_route() is None
    (tmp_path / "route").write_text(HEAD + line(via="0100007F"))
    found = default_route()
    assert found is not None
    assert (found.gateway, found.own) == ("127.0.0.1", "127.0.0.1")
