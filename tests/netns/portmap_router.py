"""A home's router with the real miniupnpd, three hosts at home and one outside. Needs root.

    home hosts 10.77.0.1 to 10.77.0.3 -- switch -- 10.77.0.4 router 11.0.0.1 -- 11.0.0.2 outside

miniupnpd takes no documentation address for its WAN: the outside has addresses that look like anybody's.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from lab import CABLE, Host, Lab, LabError

WAN, WAN_ADDRESS, OUTSIDE_ADDRESS = "wan", "11.0.0.1", "11.0.0.2"
START_S = 10.0  # for a daemon or a Python process on a busy machine
STOP_S = 5.0
POLL_S = 0.01
NODE = Path(__file__).with_name("portmap_node.py")

# As a home's router has it: nothing comes in unasked, what miniupnpd adds goes first.
RULES = """
table inet filter {
    chain miniupnpd {}
    chain forward {
        type filter hook forward priority 0; policy accept;
        jump miniupnpd
        iifname "wan" ct state established,related accept
        iifname "wan" drop
    }
    chain input {
        type filter hook input priority 0; policy accept;
        iifname "wan" ct state new drop
    }
    chain prerouting_miniupnpd {}
    chain postrouting_miniupnpd {}
    chain prerouting {
        type nat hook prerouting priority -100;
        jump prerouting_miniupnpd
    }
    chain postrouting {
        type nat hook postrouting priority 100;
        jump postrouting_miniupnpd
        oifname "wan" masquerade
    }
}
"""
FORGET = "".join(
    f"flush chain inet filter {chain}\n"
    for chain in ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd")
)
# Towards one host the router is one that speaks less. PCP's packets begin with a 2, after UDP's 8 bytes.
NO_PCP = "add rule inet filter input ip saddr {} udp dport 5351 @th,64,8 2 drop\n"
UPNP_ONLY = "add rule inet filter input ip saddr {} udp dport 5351 reject\n"
SILENT = "add rule inet filter input ip saddr {} udp dport {{ 1900, 5351 }} drop\n"
CHAIN = ("inet", "filter", "prerouting_miniupnpd")
TRANSPORTS = {6: "tcp", 17: "udp"}


def why_no_router() -> str:
    """Why there can be no such router here although there can be a Lab, "" when there can."""
    for program, package in (("nft", "nftables"), ("miniupnpd", "miniupnpd-nftables")):
        if not shutil.which(program, path=_path()):
            return f"the program {program} is missing: Debian's package {package} has it"
    try:
        with HomeRouter():
            return ""
    except LabError as error:
        return f"no translation in namespaces here: {error}"


class HomeRouter:
    """The lab. A context manager: at its end all is gone."""

    def __init__(self) -> None:
        self._lab = Lab(5)
        *self.homes, self.router, self.outside = self._lab.hosts
        self._folder = tempfile.TemporaryDirectory(prefix="portmap-")
        self._daemon: subprocess.Popen[bytes] | None = None
        self._nodes: list[Node] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._lab)
            stack.callback(self._close)
            self._make()
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        self._lab.__exit__(kind, error, trace)

    def _close(self) -> None:
        self.end_nodes()
        self.stop()
        self._folder.cleanup()

    def _make(self) -> None:
        router, outside = self.router, self.outside
        outside.run("ip", "link", "delete", CABLE)
        peer = ("type", "veth", "peer", "name", WAN, "netns", outside.namespace)
        router.run("ip", "link", "add", WAN, *peer)
        for host, address in ((router, WAN_ADDRESS), (outside, OUTSIDE_ADDRESS)):
            host.run("ip", "address", "add", f"{address}/24", "dev", WAN)
            host.run("ip", "link", "set", WAN, "up")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for host in self.homes:
            host.run("ip", "route", "add", "default", "via", router.address)
        self.rules(RULES)

    @property
    def log(self) -> str:
        """What the daemon logged since it was last started."""
        return Path(self._folder.name, "log").read_text()

    def rules(self, text: str) -> None:
        """Give the router's nft these to do."""
        file = Path(self._folder.name, "rules")
        file.write_text(text)
        self.router.run("nft", "-f", str(file))

    def mapped(self) -> set[tuple[str, int, str]]:
        """Transport, external port and home host of all that the router translates."""
        listing = self.router.run("nft", "-j", "list", "chain", *CHAIN)
        rules = [entry["rule"]["expr"] for entry in json.loads(listing)["nftables"] if "rule" in entry]
        found = set()
        for _, protocol, port, target in rules:  # of the interface, @nh,72,8; dport; dnat
            transport = TRANSPORTS[protocol["match"]["right"]]
            found.add((transport, port["match"]["right"], target["dnat"]["addr"]))
        return found

    def start(self, *settings: str, upnp: bool = True, natpmp: bool = True) -> None:
        """Start the daemon, as a router that was switched on; returns when it listens."""
        self.rules(FORGET)
        folder = Path(self._folder.name)
        lines = (
            f"ext_ifname={WAN}",
            f"listening_ip={CABLE}",
            f"enable_upnp={'yes' if upnp else 'no'}",
            f"enable_natpmp={'yes' if natpmp else 'no'}",
            "upnp_table_name=filter",
            "upnp_nat_table_name=filter",
            "upnp_forward_chain=miniupnpd",
            "upnp_nat_chain=prerouting_miniupnpd",
            "upnp_nat_postrouting_chain=postrouting_miniupnpd",
            "secure_mode=yes",
            "system_uptime=no",
            "min_lifetime=1",
            "max_lifetime=86400",
            f"uuid=f4b38903-9b58-4353-870e-2e0c92e{os.getpid() % 100000:05d}",
            *settings,
        )
        (folder / "conf").write_text("".join(f"{line}\n" for line in lines))
        with (folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [*self.router.prefix, "miniupnpd", "-d", "-f", folder / "conf", "-P", folder / "pid"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PATH": _path()},
            )
        wait_until(lambda: "listening" in self.log.lower(), "miniupnpd listens", lambda: self.log, START_S)

    def stop(self) -> None:
        """End the daemon: the mappings stay in the kernel, as they do when it dies on a router."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait(STOP_S)
            self._daemon = None

    def node(
        self, host: Host, port: int, *, watch_s: float = 60.0, lease_s: int = 7200, secret: str = ""
    ) -> "Node":
        """Begin to keep `port` of one of the home's hosts mapped."""
        self._nodes.append(Node(host, port, watch_s, lease_s, secret))
        return self._nodes[-1]

    def end_nodes(self) -> None:
        """Kill them all."""
        while self._nodes:
            self._nodes.pop().close()


class Node:
    """A process that does nothing but `keep_mappings`."""

    def __init__(self, host: Host, port: int, watch_s: float, lease_s: int, secret: str) -> None:
        self._stdout: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in `close`
        self.process = subprocess.Popen(
            [*host.prefix, sys.executable, NODE, str(port), str(watch_s), str(lease_s), secret],
            cwd=NODE.parents[2],
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=subprocess.STDOUT,
        )

    def events(self) -> list[dict[str, Any]]:
        """All that it was told so far: {"at_s", "mapping"} or {"at_s", "trouble"}."""
        text = os.pread(self._stdout.fileno(), 1_000_000, 0).decode()
        lines = [line for line in text.split("\n")[:-1] if line]
        assert all(line.startswith("{") for line in lines), text
        return [json.loads(line) for line in lines]

    def said(self, name: str, count: int = 1, patience_s: float = START_S) -> Any:
        """What the so many-th event of that name tells, when it is there; and prints how long that took."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events() if name in event]

        wait_until(lambda: len(found()) >= count, f"{name} number {count}", self.events, patience_s)
        event = found()[count - 1]
        print(f"{event['at_s']:7.3f} s {name}: {event[name]}")
        return event[name]

    def stop(self) -> float:
        """SIGTERM; how long its end took, in seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_S) == 0, self.events()
        return time.monotonic() - began

    def kill(self) -> None:
        """It is gone without a word."""
        self.process.kill()
        self.process.wait(STOP_S)

    def close(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.kill()
        self._stdout.close()


def wait_until(
    condition: Callable[[], bool], what: str, seen: Callable[[], object], patience_s: float
) -> None:
    """Fails after `patience_s` with `what` and what `seen` gives."""
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, f"not within {patience_s:g} s: {what}: {seen()}"
        time.sleep(POLL_S)


def _path() -> str:
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
