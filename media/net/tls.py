"""TLS as a filter between a TCP connection and its protocol machine; certificates from files.

The only I/O here is reading certificates, and reading file slices that a plain connection would
leave to the kernel.
"""

import os
import ssl
from collections import deque

from media.errors import WireError
from media.net.transport import Buffer, FileSlice, Protocol, ProtocolFactory, Transport

HANDSHAKE_S = 10.0  # several round trips of a bad mobile link; after that it is a slowloris
READ_BYTES = 65536
CHUNK_BYTES = 65536  # encrypted at a time: four TLS records (RFC 8446 5.1)
AHEAD_BYTES = 256 << 10  # encrypted and not yet taken by the kernel, per connection


class TlsSettings:
    """A server's certificate chain and key, PEM files. `reload` serves renewed files to new connections."""

    def __init__(self, certificate: str, key: str, protocols: tuple[str, ...] = ("http/1.1",)) -> None:
        """Raises OSError or ssl.SSLError (which is one) when the files cannot be used."""
        self._certificate = certificate
        self._key = key
        self._protocols = protocols
        self.context = self._load()

    def reload(self) -> None:
        """Read the files again; on an error the old certificate stays."""
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(list(self._protocols))
        context.load_cert_chain(self._certificate, self._key)
        return context


def secured(factory: ProtocolFactory, settings: TlsSettings) -> ProtocolFactory:
    """The same protocol under TLS; it is made when the handshake is complete."""

    def start(transport: Transport, now: float) -> Protocol:
        return TlsFilter(transport, now, settings.context, factory)

    return start


class TlsFilter:
    """Below it a TCP transport, above it a protocol machine; server side."""

    def __init__(
        self, transport: Transport, now: float, context: ssl.SSLContext, factory: ProtocolFactory
    ) -> None:
        self.peer_host = transport.peer_host
        self.peer_port = transport.peer_port
        self.secure = True
        self._transport = transport
        self._factory = factory
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._protocol: Protocol | None = None
        self._plain: deque[Buffer | FileSlice] = deque()
        self._plain_bytes = 0
        self._open = True
        self._eof = False
        self._paused = False
        self._resumed = False
        self._wake_at: float | None = None
        transport.wake_at(now + HANDSHAKE_S)

    # The transport of the protocol above.

    @property
    def queued_bytes(self) -> int:
        return self._plain_bytes + self._transport.queued_bytes

    def send(self, *buffers: Buffer) -> None:
        if not self._open:
            return
        total = sum(map(len, buffers))
        if len(buffers) > 1 and total <= CHUNK_BYTES:  # head and body in one record
            buffers = (b"".join(buffers),)
        self._plain.extend(buffer for buffer in buffers if buffer)
        self._plain_bytes += total
        self._pump()

    def send_file(self, part: FileSlice, head: bytes = b"") -> None:
        if not self._open:
            return
        if head:
            self._plain.append(head)
            self._plain_bytes += len(head)
        self._plain.append(part)
        self._plain_bytes += part.length
        self._pump()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._wake_at = None
            self._transport.wake_at(None)
            self._pump()

    def abort(self) -> None:
        self._open = False
        self._plain.clear()
        self._plain_bytes = 0
        self._transport.abort()

    def wake_at(self, when: float | None) -> None:
        self._wake_at = when
        if not self._resumed:
            self._transport.wake_at(when)

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Plaintext that waits inside is handed on by a deadline of the past, never from in here."""
        self._paused = False
        self._transport.resume_reading()
        self._resumed = True
        self._transport.wake_at(0.0)

    # The protocol of the transport below.

    def receive(self, data: bytes, now: float) -> None:
        self._incoming.write(data)
        self._advance(now)

    def receive_eof(self, now: float) -> None:
        self._give_eof(now)

    def drained(self, now: float) -> None:
        self._pump()
        if self._open and self._protocol is not None and not self.queued_bytes:
            self._protocol.drained(now)

    def on_deadline(self, now: float) -> None:
        if self._protocol is None:
            raise WireError(f"no TLS handshake within {HANDSHAKE_S:.0f} s")
        if self._resumed:
            self._resumed = False
            self._advance(now)
        if self._wake_at is not None and self._wake_at <= now:
            self._wake_at = None
            self._protocol.on_deadline(now)
        if self._wake_at is not None:
            self._transport.wake_at(self._wake_at)

    def closed(self, now: float) -> None:
        self._open = False
        if self._protocol is not None:
            self._protocol.closed(now)

    def _advance(self, now: float) -> None:
        try:
            if self._protocol is None:
                self._ssl.do_handshake()
                self._flush()
                self._transport.wake_at(None)
                self._protocol = self._factory(self, now)
            while self._open and not self._paused and not self._eof:
                data = self._ssl.read(READ_BYTES)
                if not data:
                    self._give_eof(now)
                    return
                self._protocol.receive(data, now)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLZeroReturnError:
            self._give_eof(now)
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            raise WireError(f"TLS: {error.reason or error}") from error

    def _give_eof(self, now: float) -> None:
        if self._eof:
            return
        self._eof = True
        if self._protocol is None:
            self._transport.close()
        elif self._open:
            self._protocol.receive_eof(now)

    def _pump(self) -> None:
        """Encrypt what is queued while the kernel takes it; say goodbye when closing and all is sent."""
        while self._plain and self._transport.queued_bytes < AHEAD_BYTES:
            chunk = self._next_chunk()
            if not chunk:
                self.abort()
                return
            self._plain_bytes -= len(chunk)
            self._ssl.write(chunk)
            self._flush()
        if not self._open and not self._plain:
            try:
                self._ssl.unwrap()
            except ssl.SSLError:
                pass  # wants the other side's close_notify, which need not be awaited (RFC 8446 6.1)
            self._flush()
            self._transport.close()

    def _next_chunk(self) -> Buffer:
        """Take up to CHUNK_BYTES from the queue; empty when a file ends before its slice does."""
        first = self._plain[0]
        if isinstance(first, FileSlice):
            chunk = os.pread(first.descriptor, min(first.length, CHUNK_BYTES), first.offset)
            size = len(chunk)
            rest = FileSlice(first.descriptor, first.offset + size, first.length - size, first.owner)
            if rest.length:
                self._plain[0] = rest
            else:
                self._plain.popleft()
            return chunk
        if len(first) <= CHUNK_BYTES:
            self._plain.popleft()
            return first
        view = memoryview(first)
        self._plain[0] = view[CHUNK_BYTES:]
        return view[:CHUNK_BYTES]

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._transport.send(self._outgoing.read())
