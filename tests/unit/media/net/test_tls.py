"""TLS between a protocol and its connection, on memory; and files in the way of the kernel."""

import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from media.errors import WireError
from media.net.tls import AHEAD_BYTES, HANDSHAKE_S, TlsFilter, TlsSettings, secured
from media.net.transport import FileSlice


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return make_certificate(folder, "one")


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    chain, key = folder / "chain.pem", folder / "key.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    subprocess.run(
        ["openssl", "req", "-x509", *kind, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(chain)],
        check=True,
        capture_output=True,
    )
    return chain, key


class Below:
    """A TCP transport that keeps what it is sent; blocked, it counts it as queued."""

    peer_host, peer_port, secure = "192.0.2.1", 5, False

    def __init__(self) -> None:
        self.sent = bytearray()
        self.blocked = False
        self.closed = self.aborted = self.paused = False
        self.wake: float | None = None

    @property
    def queued_bytes(self) -> int:
        return len(self.sent) if self.blocked else 0

    def send(self, *buffers: bytes) -> None:
        for buffer in buffers:
            self.sent += buffer

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def wake_at(self, when: float | None) -> None:
        self.wake = when

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Talk:
    """A client's TLS on memory, against a server's filter with a recording protocol."""

    def __init__(self, settings: TlsSettings, made: Any, **client: Any) -> None:
        self.below = Below()
        self.filter: Any = secured(made, settings)(self.below, 100.0)  # type: ignore[arg-type]  # no files below
        assert isinstance(self.filter, TlsFilter)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        for name, value in client.items():
            setattr(context, name, value)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def exchange(self) -> None:
        """Carry what each side has to say."""
        data = self.outgoing.read()
        if data:
            self.filter.receive(data, 100.0)
        self.incoming.write(bytes(self.below.sent))
        self.below.sent.clear()

    def connect(self) -> None:
        for _ in range(4):
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.exchange()
        self.exchange()

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.exchange()

    def read(self) -> bytes:
        self.exchange()
        data = b""
        try:
            while chunk := self.tls.read(65536):
                data += chunk
        except ssl.SSLWantReadError:
            pass
        return data


@pytest.fixture
def settings(certificate: tuple[Path, Path]) -> TlsSettings:
    return TlsSettings(*map(str, certificate))


@pytest.fixture
def talk(settings: TlsSettings, made: Any) -> Talk:
    talk = Talk(settings, made)
    talk.connect()
    return talk


def test_bytes_come_and_go(talk: Talk, made: Any) -> None:
    talk.send(b"hello")
    made[0].transport.send(b"head", b"body", b"")
    assert made[0].events == [b"hello"]
    assert talk.read() == b"headbody"
    assert made[0].transport.secure
    assert made[0].transport.peer_host == "192.0.2.1"
    assert (talk.tls.selected_alpn_protocol(), talk.tls.version()) == ("http/1.1", "TLSv1.3")


def test_old_versions_are_refused(settings: TlsSettings, made: Any) -> None:
    talk = Talk(settings, made, maximum_version=ssl.TLSVersion.TLSv1_2)
    talk.connect()
    assert talk.tls.version() == "TLSv1.2"
    assert settings.context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_garbage_is_the_other_sides_fault(settings: TlsSettings, made: Any) -> None:
    talk = Talk(settings, made)
    with pytest.raises(WireError, match="TLS"):
        talk.filter.receive(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 100.0)
    assert made == []


def test_handshake_has_a_deadline(settings: TlsSettings, made: Any) -> None:
    talk = Talk(settings, made)
    assert talk.below.wake == 100.0 + HANDSHAKE_S
    with pytest.raises(WireError, match="handshake"):
        talk.filter.on_deadline(110.0)


def test_end_before_the_handshake(settings: TlsSettings, made: Any) -> None:
    talk = Talk(settings, made)
    talk.filter.receive_eof(100.0)
    talk.filter.closed(101.0)
    assert talk.below.closed
    assert made == []


def test_large_answers_are_encrypted_as_they_are_taken(talk: Talk, made: Any) -> None:
    body = bytes(range(256)) * 12_000
    talk.below.blocked = True
    made[0].transport.send(b"head", body)
    assert len(talk.below.sent) < AHEAD_BYTES + 70_000
    assert made[0].transport.queued_bytes >= len(body)
    got = b""
    while made[0].transport.queued_bytes:
        got += talk.read()
        talk.filter.drained(101.0)
    assert got + talk.read() == b"head" + body
    assert made[0].events == ["drained"]


def test_files(talk: Talk, made: Any) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)) * 1000)
        file.flush()
        made[0].transport.send_file(FileSlice(file.fileno(), 1, 200_000, file), b"head")
        assert talk.read() == b"head" + (bytes(range(256)) * 1000)[1:200_001]
        made[0].transport.send_file(FileSlice(file.fileno(), 255_000, 200_000, file))
    assert talk.below.aborted


def test_close_says_goodbye(talk: Talk, made: Any) -> None:
    made[0].transport.send(b"bye")
    made[0].transport.close()
    made[0].transport.send(b"ignored")
    assert talk.below.closed
    talk.exchange()
    assert talk.tls.read(100) == b"bye"
    assert talk.tls.read(100) == b""  # an end that TLS vouches for


def test_goodbye_of_the_other_side(talk: Talk, made: Any) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        talk.tls.unwrap()
    talk.exchange()
    talk.filter.receive_eof(101.0)
    assert made[0].events == ["eof"]


def test_pausing_holds_what_is_decrypted_already(talk: Talk, made: Any) -> None:
    made[0].act = lambda data: made[0].transport.pause_reading()
    talk.tls.write(b"one")
    talk.tls.write(b"two")
    talk.exchange()
    assert made[0].events == [b"one"]
    assert talk.below.paused
    made[0].transport.wake_at(500.0)
    made[0].transport.resume_reading()
    assert made[0].events == [b"one"]
    assert talk.below.wake == 0.0
    talk.filter.on_deadline(101.0)
    assert made[0].events == [b"one", b"two"]
    assert talk.below.wake == 500.0


def test_renewed_certificate_is_for_new_connections(
    tmp_path: Path, made: Any, certificate: tuple[Path, Path]
) -> None:
    settings = TlsSettings(*map(str, make_certificate(tmp_path, "before")))
    before = settings.context
    make_certificate(tmp_path, "after")
    settings.reload()
    assert settings.context is not before
    (tmp_path / "key.pem").write_text("nonsense")
    now = settings.context
    with pytest.raises(ssl.SSLError):
        settings.reload()
    assert settings.context is now
