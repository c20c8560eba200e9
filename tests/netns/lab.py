"""Machines on one Ethernet: a bridge in a network namespace, each host in one of its own. Needs root.

Nothing of it touches the machine's own network: both ends of every cable are in namespaces. Their names carry
this process's id, so that runs side by side do not meet and what a killed run left behind is found.
"""

import contextlib
import ctypes
import errno
import itertools
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

SUBNET = "10.77.0"
PUBLIC = ("198.51.100", "203.0.113")  # RFC 5737: of no LAN
GATEWAY = "192.0.2.1"
SYN_BYTES = 60  # of an IPv4 packet that begins a connection, with Linux's options
MULTICAST = "224.0.0.0/4"
CABLE = "eth0"
BRIDGE = "br0"
PREFIX = "fwlab"
NAMESPACES = Path("/run/netns")
OWN_NAMESPACE = Path("/proc/thread-self/ns/net")
CLONE_NEWNET = 0x40000000  # linux/sched.h
COMMAND_S = 20.0
PORT_DISABLED, PORT_FORWARDING = "0", "3"  # linux/if_bridge.h: BR_STATE_…

_numbers = itertools.count()


class LabError(Exception):
    """A command of the lab failed; the text is the command and what it said."""


class Unsupported(LabError):
    """This machine's kernel cannot do that."""


def why_not() -> str:
    """Why there can be no lab here, "" when there can. Tries it."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "bridge"):
        if not shutil.which(program, path=_path()):
            return f"the program {program} is missing: Debian's package iproute2 has it"
    try:
        with Lab(1):
            return ""
    except LabError as error:
        return f"no network namespaces here: {error}"


class Host:
    """One machine of a lab."""

    def __init__(self, number: int, namespace: str) -> None:
        self.number = number
        self.namespace = namespace
        self.address = f"{SUBNET}.{number + 1}"

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command that runs the rest of its line here, under the process id that it was started with."""
        return (shutil.which("ip", path=_path()) or "ip", "netns", "exec", self.namespace)

    def run(self, *command: str) -> str:
        """What a command prints that runs here. Raises LabError when it fails."""
        return _run(*self.prefix, *command)

    def socket(
        self, family: socket.AddressFamily = socket.AF_INET, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> socket.socket:
        """A new socket of this process that is in the host's network: a socket stays where it was made."""
        with OWN_NAMESPACE.open() as own, (NAMESPACES / self.namespace).open() as other:
            _enter(other.fileno())
            try:
                return socket.socket(family, kind)
            finally:
                _enter(own.fileno())


class Lab:
    """So many hosts, 10.77.0.1 and on, on one bridge. A context manager: at its end all is gone."""

    def __init__(self, hosts: int) -> None:
        name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self._bridge = f"{name}-br"
        self.hosts = [Host(number, f"{name}-h{number}") for number in range(hosts)]

    def __enter__(self) -> Self:
        _remove_left_behind()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _make(self) -> None:
        _ip("netns", "add", self._bridge)
        # Ports forward at once, and multicast reaches everybody, as on a switch that people have at home.
        link = ("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        _ip("-n", self._bridge, *link)
        _ip("-n", self._bridge, "link", "set", BRIDGE, "up")
        for host in self.hosts:
            self._add(host)

    def _add(self, host: Host) -> None:
        _ip("netns", "add", host.namespace)
        port = _port(host)
        _ip("link", "add", CABLE, "netns", host.namespace, *_veth(port, self._bridge))
        _ip("-n", self._bridge, "link", "set", port, "master", BRIDGE, "up")
        _ip("-n", host.namespace, "link", "set", "lo", "up")
        _ip("-n", host.namespace, "link", "set", CABLE, "up")
        self._address(host)

    def _address(self, host: Host) -> None:
        _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", CABLE)
        _ip("-n", host.namespace, "route", "add", MULTICAST, "dev", CABLE)

    def _remove(self) -> None:
        for namespace in (*(host.namespace for host in self.hosts), self._bridge):
            with contextlib.suppress(LabError):  # it was not made
                _ip("netns", "delete", namespace)

    def drop(self, *hosts: Host) -> None:
        """The bridge throws away all from and for them. They do not notice: the link stays up."""
        self._set_ports(hosts, PORT_DISABLED)

    def restore(self, *hosts: Host) -> None:
        """End `drop`."""
        self._set_ports(hosts, PORT_FORWARDING)

    def _set_ports(self, hosts: tuple[Host, ...], state: str) -> None:
        for host in hosts:
            _ip("netns", "exec", self._bridge, "bridge", "link", "set", "dev", _port(host), "state", state)

    def unplug(self, host: Host) -> None:
        """Take the host's cable out: it sees that there is no carrier."""
        _ip("-n", self._bridge, "link", "set", _port(host), "down")

    def plug(self, host: Host) -> None:
        """End `unplug`."""
        _ip("-n", self._bridge, "link", "set", _port(host), "up")

    def readdress(self, host: Host, address: str) -> None:
        """Take the host's address away and give it another, as a new lease does."""
        _ip("-n", host.namespace, "address", "flush", "dev", CABLE, "scope", "global")
        host.address = address
        self._address(host)

    def delay(self, host: Host, delay_ms: float) -> None:
        """Hold back all that the host sends. Raises Unsupported where the kernel has no netem."""
        netem = ("netem", "delay", f"{delay_ms:g}ms")
        try:
            _run("tc", "-n", host.namespace, "qdisc", "replace", "dev", CABLE, "root", *netem)
        except LabError as error:
            raise Unsupported(f"no delay by netem here: {error}") from None


class Internet(Lab):
    """So many hosts, each in a network of its own behind one router, with addresses that look public.

    What is sent to everybody stays on the host's own cable. `drop` and the like are for the bridge only.
    """

    def __init__(self, hosts: int) -> None:
        super().__init__(hosts)
        for host in self.hosts:
            host.address = f"{PUBLIC[host.number % len(PUBLIC)]}.{host.number + 1}"

    def _make(self) -> None:
        _ip("netns", "add", self._bridge)
        _run("ip", "netns", "exec", self._bridge, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for host in self.hosts:
            _ip("netns", "add", host.namespace)
            port = _port(host)
            _ip("link", "add", CABLE, "netns", host.namespace, *_veth(port, self._bridge))
            _ip("-n", self._bridge, "address", "add", f"{GATEWAY}/32", "dev", port)
            _ip("-n", self._bridge, "link", "set", port, "up")
            _ip("-n", self._bridge, "route", "add", host.address, "dev", port)
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", host.namespace, "link", "set", CABLE, "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/32", "dev", CABLE)
            _ip("-n", host.namespace, "route", "add", GATEWAY, "dev", CABLE)
            _ip("-n", host.namespace, "route", "add", "default", "via", GATEWAY, "dev", CABLE)

    def close(self, *hosts: Host, verdict: str = "drop") -> None:
        """A firewall on each host: what nobody there asked for gets `verdict`, and no UDP comes in at all.

        "drop", as most have it, or "reject".
        """
        for host in hosts:
            rules = ("meta l4proto udp drop", "ct state established,related accept", verdict)
            _filter(host, "closed", "iif lo accept", *rules)

    def lose_first(self, source: Host, target: Host) -> None:
        """The first packet of the first connection from `source` to `target` is lost."""
        first = f"tcp flags syn quota until {SYN_BYTES} bytes"
        _filter(target, "lossy", f"ip saddr {source.address} {first} drop")

    def open(self, *hosts: Host) -> None:
        """End all that was done to the hosts' packets."""
        for host in hosts:
            host.run("nft", "flush", "ruleset")


def _filter(host: Host, table: str, *rules: str) -> None:
    chain = "\n".join(("type filter hook input priority 0", *rules))
    host.run("nft", f"table inet {table} {{\nchain {table} {{\n{chain}\n}}\n}}")


def _veth(port: str, namespace: str) -> tuple[str, ...]:
    return ("type", "veth", "peer", "name", port, "netns", namespace)


def _port(host: Host) -> str:
    return f"h{host.number}"


def _remove_left_behind() -> None:
    """Namespaces of runs that were killed. Their number is that of no process now."""
    if not NAMESPACES.exists():
        return
    for path in NAMESPACES.iterdir():
        found = re.fullmatch(rf"{PREFIX}(\d+)-.*", path.name)
        if found and not Path("/proc", found[1]).exists():
            with contextlib.suppress(LabError):  # another run was faster
                _ip("netns", "delete", path.name)


def _enter(descriptor: int) -> None:
    """Move this thread to a network namespace. (os.setns begins with Python 3.12.)"""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {errno.errorcode.get(number)}")


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> str:
    try:
        ran = subprocess.run(
            command,
            env=os.environ | {"PATH": _path()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{' '.join(command)}: {error}") from None
    if ran.returncode:
        raise LabError(f"{' '.join(command)}: {(ran.stderr or ran.stdout).strip()}")
    return ran.stdout


def _path() -> str:
    """Where to look for programs: administrators' are not in everybody's path."""
    return f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
