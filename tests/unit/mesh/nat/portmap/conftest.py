"""A router of PCP and NAT-PMP that does as it is told, and a home with a virtual clock."""

import ipaddress
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mesh.nat.portmap.mapper import Changed, Mapper, Output, Send, Trouble
from mesh.nat.portmap.model import PortMapping

OWN, GATEWAY, PORT = "192.168.1.2", "192.168.1.1", 7077
NONCE = b"0123456789ab"
TCP, UDP = 6, 17
NOW = 1000.0
STARTED = NOW - 500.0
PMP_TRANSPORTS = {1: UDP, 2: TCP}


@dataclass
class Router:
    """What it answers to one datagram. Written from the RFCs, without the product's codecs."""

    pcp: bool = True
    nat_pmp: bool = True
    silent: bool = False
    external_host: str = "203.0.113.7"
    granted_s: int = 7200  # at most
    refuses: dict[int, int] = field(default_factory=dict)  # transport -> result code
    taken: set[tuple[int, int]] = field(default_factory=set)  # transport, external port: somebody else's
    began: float = STARTED
    mapped: dict[int, int] = field(default_factory=dict)  # transport -> external port
    heard: list[bytes] = field(default_factory=list)

    def restart(self, now: float) -> None:
        self.began, self.mapped = now, {}

    def answer(self, data: bytes, now: float) -> bytes | None:
        self.heard.append(data)
        if self.silent:
            return None
        epoch = int(now - self.began)
        if data[0] == 2:
            if self.pcp:
                return self._answer_pcp(data, epoch)
            return struct.pack("!BBHI", 0, 0x80 | data[1], 1, epoch) if self.nat_pmp else None
        return self._answer_nat_pmp(data, epoch) if self.nat_pmp else None

    def _map(self, transport: int, internal: int, wish: int, lease_s: int) -> tuple[int, int, int]:
        """Result code, external port, lease."""
        if code := self.refuses.get(transport):
            return code, 0, 30
        if lease_s == 0:
            self.mapped.pop(transport, None)
            return 0, 0, 0
        port = self.mapped.get(transport) or wish or internal
        while (transport, port) in self.taken:
            port += 1
        self.mapped[transport] = port
        return 0, port, min(lease_s, self.granted_s)

    def _answer_pcp(self, data: bytes, epoch: int) -> bytes:
        opcode = data[1]
        if opcode == 0:
            return struct.pack("!BBBBII12x", 2, 0x80, 0, 0, 0, epoch)
        (lease_s,) = struct.unpack_from("!I", data, 4)
        nonce, transport, internal, wish, _ = struct.unpack_from("!12sB3xHH16s", data, 24)
        code, port, lease_s = self._map(transport, internal, wish, lease_s)
        host = bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(self.external_host).packed
        head = struct.pack("!BBBBII12x", 2, 0x80 | opcode, 0, code, lease_s, epoch)
        return head + struct.pack("!12sB3xHH16s", nonce, transport, internal, port, host)

    def _answer_nat_pmp(self, data: bytes, epoch: int) -> bytes:
        opcode = data[1]
        if opcode == 0:
            host = ipaddress.IPv4Address(self.external_host).packed
            return struct.pack("!BBHI4s", 0, 0x80, 0, epoch, host)
        internal, wish, lease_s = struct.unpack_from("!HHI", data, 4)
        code, port, lease_s = self._map(PMP_TRANSPORTS[opcode], internal, wish, lease_s)
        return struct.pack("!BBHIHHI", 0, 0x80 | opcode, code, epoch, internal, port, lease_s)


class Home:
    """A mapper and a router, answers at once, time when told."""

    def __init__(self, router: Router, **options: Any) -> None:
        self.router, self.now = router, NOW
        self.mapper = Mapper(
            port=PORT,
            own=OWN,
            gateway=GATEWAY,
            nonce=NONCE,
            now=self.now,
            **options,
        )
        self.told: list[PortMapping | str | None] = []
        self.upnp: list[Output] = []
        self.sent_at: list[float] = []
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.settle()

    def settle(self) -> None:
        """Do what the mapper wants until it wants nothing."""
        while outputs := self.mapper.outputs():
            for output in outputs:
                self._do(output)

    def _do(self, output: Output) -> None:
        if isinstance(output, Send):
            self.sent_at.append(self.now)
            if (data := self.router.answer(output.data, self.now)) is not None:
                self.mapper.receive(self.tamper(data), self.now)
        elif isinstance(output, Changed):
            self.told.append(output.mapping)
        elif isinstance(output, Trouble):
            self.told.append(output.text)
        else:
            self.upnp.append(output)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        for _ in range(10_000):
            due = self.mapper.deadline()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.mapper.on_deadline(self.now)
            self.settle()
        else:
            raise AssertionError("the mapper does not come to rest")
        self.now = end

    @property
    def mapping(self) -> PortMapping:
        """What it was told last."""
        found = self.told[-1]
        assert isinstance(found, PortMapping)
        return found


DESCRIPTION = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service><serviceType>{service}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/scpd.xml</SCPDURL><controlURL>{control}</controlURL><eventSubURL>/event</eventSubURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>"""
SERVICE = "urn:schemas-upnp-org:service:WANIPConnection:1"
ENVELOPE = (
    '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
    's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>{}</s:Body></s:Envelope>'
)
FAULT = (
    "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>"
    '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{}</errorCode></UPnPError>'
    "</detail></s:Fault>"
)


class Igd:
    """A UPnP gateway on an address of loopback, which answers as it is told."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.external_host = "203.0.113.7"
        self.control = "/control"
        self.errors: dict[tuple[str, str], int] = {}  # action and "TCP", "UDP" or a port -> error code
        self.mapped: dict[tuple[str, str], dict[str, str]] = {}
        self.actions: list[str] = []
        self.has_both = threading.Event()
        self.hangs = threading.Event()
        self.hangs.set()
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Of its description."""
        return f"http://{self.host}:{self._server.server_port}/root.xml"

    def close(self) -> None:
        self.hangs.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        igd = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(200, DESCRIPTION.format(service=SERVICE, control=igd.control))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                igd.hangs.wait(10.0)
                self._reply(*igd._act(self.headers["SOAPAction"].partition("#")[2].strip('"'), body))

            def _reply(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/xml")
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        return Handler

    def _act(self, action: str, body: str) -> tuple[int, str]:
        said = dict(re.findall(r"<(New\w+)>([^<]*)</", body))
        key = (said.get("NewProtocol", ""), said.get("NewExternalPort", ""))
        self.actions.append(f"{action} {' '.join(key)}".strip())
        for detail in (*key, said.get("NewLeaseDuration", ""), ""):
            if code := self.errors.get((action, detail)):
                return 500, ENVELOPE.format(FAULT.format(code))
        answer = {}
        if action == "AddPortMapping":
            self.mapped[key] = said
            if len(self.mapped) == 2:
                self.has_both.set()
        elif action == "DeletePortMapping":
            self.mapped.pop(key, None)
        elif action == "GetExternalIPAddress":
            answer["NewExternalIPAddress"] = self.external_host
        elif key not in self.mapped:
            return 500, ENVELOPE.format(FAULT.format(714))
        else:
            answer = self.mapped[key]
        fields = "".join(f"<{name}>{value}</{name}>" for name, value in answer.items())
        return 200, ENVELOPE.format(f'<u:{action}Response xmlns:u="{SERVICE}">{fields}</u:{action}Response>')


@pytest.fixture
def gateway() -> str:
    """An address of loopback that no other process's tests have."""
    return f"127.{os.getpid() >> 14 & 0x7F | 0x80}.{os.getpid() >> 7 & 0x7F}.{os.getpid() & 0x7F | 0x80}"


@pytest.fixture
def igd(gateway: str) -> Iterator[Igd]:
    made = Igd(gateway)
    yield made
    made.close()


@pytest.fixture
def make_router() -> type[Router]:
    """`make_router(pcp=False, ...)`."""
    return Router


@pytest.fixture
def make_home(make_router: type[Router]) -> Callable[..., Home]:
    """`make_home(watch_s=..., pcp=False, ...)`: what is no option of the mapper is the router's."""

    def make(**options: Any) -> Home:
        own = {name: options.pop(name) for name in ("watch_s", "lease_s") if name in options}
        return Home(make_router(**options), **own)

    return make
