"""STUN on loopback: our survey and pystun3 ask coturn's turnserver, coturn's client asks our answerer."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from mesh.address import show_address, split_address
from mesh.nat.answerer import StunAnswerer
from mesh.nat.asking import Send
from mesh.nat.classic.service import classify
from mesh.nat.facts import Mapping, NatFacts, NatKind
from mesh.nat.stun import (
    Kind,
    encode_binding_request,
    mapped_address,
    other_address,
    parse_stun_untrusted,
)
from mesh.nat.survey import NatSurvey

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not shutil.which("turnserver"), reason="coturn is not installed"),
]

HOSTS = ("127.0.0.1", "127.0.0.2")
START_S = 10.0
ANSWER_S = 2.0
TRIES = 20
SERVER_PORTS = range(20_000, 32_000)  # below those that Linux gives to clients


def free_ports(count: int) -> list[int]:
    """Ports that are free on all addresses, and that no client gets: it would be taken for the server."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(SERVER_PORTS)
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("0.0.0.0", port))
            found += [port] if port not in found else []
    return found


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A STUN server with two addresses and two ports; its port."""
    folder = tmp_path_factory.mktemp("coturn")
    port, other = free_ports(2)
    listening = [part for host in HOSTS for part in ("-L", host)]
    listening += ["-p", str(port), "--alt-listening-port", str(other)]
    plain = ["-S", "-n", "-m", "1", "--no-tls", "--no-dtls", "--no-tcp", "--no-cli"]
    files = ["--userdb", str(folder / "db"), "--pidfile", str(folder / "pid")]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            ["turnserver", *listening, *plain, *files, "--log-file", "stdout"],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        until = time.monotonic() + START_S
        while not all(ask(f"{host}:{port}", wait_s=0.1) for host in HOSTS):
            running = server.poll() is None and time.monotonic() < until
            assert running, f"turnserver did not start:\n{Path(folder / 'log').read_text()}"
        yield port
    finally:
        server.kill()
        server.wait()


def ask(server: str, *, software: str = "", wait_s: float = ANSWER_S) -> tuple[str, str] | None:
    """What a server says of a socket of this process, and what the socket is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(split_address(server))
        sock.settimeout(wait_s)
        transaction = secrets.token_bytes(12)
        try:
            sock.send(encode_binding_request(transaction, software=software))
            answer = parse_stun_untrusted(sock.recv(2048))
        except OSError:
            return None
        assert (answer.kind, answer.transaction, answer.unknown) == (Kind.SUCCESS, transaction, ())
        return mapped_address(answer) or "", show_address(sock.getsockname())


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("software", ["", "fwnode"])
def test_our_codec_asks_coturn(coturn: int, host: str, software: str) -> None:
    answered = ask(f"{host}:{coturn}", software=software)
    assert answered is not None
    assert answered[0] == answered[1]


def test_coturns_other_address(coturn: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(ANSWER_S)
        sock.sendto(encode_binding_request(bytes(12)), (HOSTS[0], coturn))
        other = other_address(parse_stun_untrusted(sock.recv(2048)))
    assert other is not None
    assert split_address(other)[0] == HOSTS[1]


def test_coturn_refuses_what_it_does_not_understand(coturn: int) -> None:
    request = encode_binding_request(bytes(12))
    request = request[:2] + b"\0\x08" + request[4:] + bytes.fromhex("7ffe000400000000")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(ANSWER_S)
        sock.sendto(request, (HOSTS[0], coturn))
        answer = parse_stun_untrusted(sock.recv(2048))
    ours = StunAnswerer(0.0).answer(request, "127.0.0.1:9", 0.0)
    assert ours is not None
    assert answer.kind is parse_stun_untrusted(ours).kind is Kind.ERROR


def test_a_survey_of_coturn(coturn: int) -> None:
    """Two addresses of one server are two servers: nothing is translated on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 0))
        sock.settimeout(0.1)
        survey = NatSurvey(Random(1), secrets.token_bytes, time.monotonic())
        survey.set_hosts(["127.0.0.9"], time.monotonic())  # else its servers would be itself
        survey.set_servers([(f"{host}:{coturn}", None) for host in HOSTS], time.monotonic())
        facts = surveyed(survey, sock)
        assert (facts.kind, facts.mapping) == (NatKind.CONSISTENT, Mapping.INDEPENDENT)
        assert facts.mapped == (f"127.0.0.1:{sock.getsockname()[1]}",)


def surveyed(survey: NatSurvey, sock: socket.socket) -> NatFacts:
    """Run a survey on one real socket until it knows the mapping."""
    for _ in range(TRIES):
        survey.on_deadline(time.monotonic())
        for output in survey.outputs():
            if isinstance(output, Send):
                sock.sendto(output.data, split_address(output.address))
        if survey.facts.mapping is not Mapping.UNKNOWN:
            break
        try:
            data, source = sock.recvfrom(2048)
        except TimeoutError:
            continue
        assert survey.receive(0, data, show_address(source), time.monotonic())
    return survey.facts


async def test_pystun3_asks_coturn(coturn: int) -> None:
    found = await classify(f"{HOSTS[0]}:{coturn}")
    assert found.said == "open internet"
    assert found.mapped.startswith("127.0.0.1:")
    assert found.sent == 3


class Server:
    """Our answerer on two loopback addresses, in a thread."""

    def __init__(self) -> None:
        self.answerer = StunAnswerer(time.monotonic())
        self.sizes: list[tuple[int, int]] = []
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in HOSTS]
        self.sockets[0].bind((HOSTS[0], 0))
        self.port = self.sockets[0].getsockname()[1]
        self.sockets[1].bind((HOSTS[1], self.port))
        self.stopping = False
        self.threads = [threading.Thread(target=self._serve, args=(sock,)) for sock in self.sockets]

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(0.05)
        while not self.stopping:
            try:
                data, source = sock.recvfrom(2048)
            except TimeoutError:
                continue
            answer = self.answerer.answer(data, show_address(source), time.monotonic())
            if answer is not None:
                self.sizes.append((len(data), len(answer)))
                sock.sendto(answer, source)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    for thread in running.threads:
        thread.start()
    yield running
    running.stopping = True
    for thread in running.threads:
        thread.join()
    for sock in running.sockets:
        sock.close()
    assert all(answer <= 2 * request for request, answer in running.sizes)


@pytest.mark.parametrize("host", HOSTS)
def test_coturns_client_asks_our_answerer(server: Server, host: str) -> None:
    found = subprocess.run(
        ["turnutils_stunclient", "-p", str(server.port), host],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "UDP reflexive addr: 127.0.0.1:" in found.stdout + found.stderr
    assert server.answerer.counters.answered >= 1


async def test_pystun3_asks_our_answerer(server: Server) -> None:
    """It has one address and refuses CHANGE-REQUEST: no more is said than can be known."""
    found = await classify(f"{HOSTS[0]}:{server.port}", f"{HOSTS[1]}:{server.port}")
    assert found.said == "open internet or symmetric UDP firewall"
    assert server.answerer.counters.refused == 1
