"""One HTTP/1.1 connection: requests in order, one answer at a time. Pure.

What arrives while an answer is pending, or while the viewer does not take the answers it has,
stays as bytes, unparsed; beyond BACKLOG_MAX_BYTES reading pauses. So a connection holds the
same memory for one pipelined request as for ten thousand.
"""

from media.deliver.http.errors import BadRequest
from media.deliver.http.parse import HEAD_MAX_BYTES, RequestParser
from media.deliver.http.reply import Reply, StreamSink
from media.deliver.http.request import Head, Request
from media.deliver.http.response import (
    CORS,
    NO_STORE,
    HeaderPairs,
    Response,
    encode_fields,
    error,
    plain_error,
    select,
    status_line,
)
from media.deliver.http.site import Site
from media.deliver.http.websocket import WebSocketSink, accept_value
from media.errors import Refused, Unavailable, WireError
from media.net.address import format_address
from media.net.transport import FileSlice, ProtocolFactory, Transport

HEAD_S = 10.0  # from a request's first byte to the end of its head: a bad mobile link's worst
BODY_S = 30.0  # from there to the end of its body: 64 KiB at 17 kbit/s
IDLE_S = 60.0  # between requests, and before the first: what browsers and nginx keep
QUEUE_MAX_BYTES = 256 << 10  # unsent answers beyond which no further request is looked at
BACKLOG_MAX_BYTES = 65536  # bytes of requests that wait
REQUESTS_PER_TURN = 32  # of one connection that pipelines, so that others get their turn
PIECE_BYTES = 4096  # fed to the parser when a request goes on: what may complete before we look

FAILED = error(500, "internal", "the server failed to answer; its log says why")
NOT_WEBSOCKET = plain_error(
    426,
    "this address speaks WebSocket",
    headers=(("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")),
)


def http_factory(site: Site) -> ProtocolFactory:
    """Makes the connections of a listener."""

    def start(transport: Transport, now: float) -> HttpConnection:
        return HttpConnection(site, transport, now)

    return start


class HttpConnection:
    """A `media.net.transport.Protocol`."""

    __slots__ = (
        "_at",
        "_begun_at",
        "_closing",
        "_eof",
        "_heard_at",
        "_input",
        "_parser",
        "_paused",
        "_ready",
        "_recognize",
        "_reply",
        "_send",
        "_sink",
        "_site",
        "_transport",
        "_working",
        "_yielded",
    )

    def __init__(self, site: Site, transport: Transport, now: float) -> None:
        self._site = site
        self._transport = transport
        self._send = transport.send
        self._recognize = site.recognize
        self._parser: RequestParser | None = None
        self._input = b""  # what is not parsed yet begins at _at
        self._at = 0
        self._ready = True  # nothing is going on: what arrives begins a request
        self._reply: Reply | None = None  # to be answered before the next request is looked at
        self._sink: StreamSink | WebSocketSink | None = None
        self._working = False  # in _work, which goes on by itself after an answer
        self._yielded = False  # asked to be woken to go on with the input
        self._paused = False
        self._closing = False
        self._eof = False
        self._heard_at = now
        self._begun_at = now  # when the request that is not complete yet began
        site.connections[self] = None
        transport.wake_at(now + IDLE_S)

    # What the reactor calls.

    def receive(self, data: bytes, now: float) -> None:
        if self._ready:
            head = self._recognize(data)
            if head is not None:
                self._heard_at = now
                self._dispatch(head, b"", now)
                return
        if self._sink is not None:
            self._sink.receive(data, now)
        elif not self._closing:
            self._input = self._input[self._at :] + data if self._input else data
            self._at = 0
            self._heard_at = now
            if self._reply is None and not self._yielded:
                self._work(now)
            self._settle(now)

    def receive_eof(self, now: float) -> None:
        self._eof = True
        if self._sink is not None:
            self._sink.receive_eof(now)
        elif self._reply is not None:
            self._transport.abort()  # it left before the answer came
        elif not self._input:
            self._transport.close()

    def drained(self, now: float) -> None:
        self._heard_at = now
        if self._sink is None and self._reply is None:
            self._work(now)
            self._settle(now)

    def on_deadline(self, now: float) -> None:
        if self._sink is not None:
            self._sink.on_deadline(now)
            return
        if self._yielded:
            self._yielded = False
            self._work(now)
            self._settle(now)
        elif self._is_awaited() and now >= self._due_at:
            self._refuse(BadRequest(408, "the request took too long"))
        elif self._ready and not self._transport.queued_bytes and now >= self._heard_at + IDLE_S:
            self._close()
        self._rearm(now)

    def closed(self, now: float) -> None:
        self._site.forget(self)
        self._ready = False
        self._closing = True
        if self._parser is not None:
            self._parser.release()
        reply, self._reply = self._reply, None
        if self._sink is not None:
            self._sink.closed(now)
        elif reply is not None and reply.on_close is not None:
            reply.on_close(now)

    def drain(self) -> None:
        """Close when there is nothing to do; else the next answer closes (`Site.draining`)."""
        if self._ready:
            self._close()

    # What a Reply calls.

    def answer(self, reply: Reply, response: Response) -> None:
        if reply is not self._reply:
            return
        self._reply = None
        head = reply.head
        site = self._site
        now = site.clock()
        route = head.route
        route.answers[response.status // 100] += 1
        if head.plain and not site.draining:
            variant = response.variant(head.gzip)
            if variant.small:
                self._send(variant.wire(site.date.plain(now)))
                route.bytes_out += variant.length
                if not self._working and (not self._ready or self._transport.queued_bytes):
                    self._go_on(now)
                return
        self._answer_with_care(head, response, now)

    def stream(self, reply: Reply, content_type: str, headers: HeaderPairs) -> StreamSink:
        sink = StreamSink(self._transport)
        if reply is self._reply:
            self._hand_over(sink)
            reply.head.route.answers[2] += 1
            fields = (("Content-Type", content_type), *headers)
            if not any(name.lower() == "cache-control" for name, _ in headers):
                fields += (("Cache-Control", NO_STORE),)
            tail = self._site.date.closing(self._site.clock())
            self._send(status_line(200) + encode_fields(fields) + CORS + tail)
            if reply.head.method == "HEAD":
                sink.close()
        return sink

    def websocket(self, reply: Reply, subprotocol: str) -> WebSocketSink | None:
        accept = accept_value(reply.head)
        if accept is None:
            self.answer(reply, NOT_WEBSOCKET)
        if accept is None or reply is not self._reply:
            return None
        now = self._site.clock()
        sink = WebSocketSink(self._transport, now)
        self._hand_over(sink)
        reply.head.route.answers[1] += 1
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]
        if subprotocol:
            fields.append(("Sec-WebSocket-Protocol", subprotocol))
        self._send(status_line(101) + encode_fields(tuple(fields)) + b"\r\n")
        return sink

    def _hand_over(self, sink: StreamSink | WebSocketSink) -> None:
        self._reply = None
        self._sink = sink
        self._ready = False
        if not self._working and self._input:
            self._go_on(self._heard_at)

    def _answer_with_care(self, head: Head, response: Response, now: float) -> None:
        """Large bodies, conditions, ranges, HEAD, and connections that close."""
        date = self._site.date
        keep = head.keep_alive and not self._site.draining
        if not keep:
            tail = date.closing(now)
        elif head.version == "1.1":
            tail = date.plain(now)
        else:
            tail = date.kept(now)
        wire = select(response, head, tail)
        head.route.bytes_out += wire.length
        if isinstance(wire.body, FileSlice):
            self._transport.send_file(wire.body, wire.head)
        elif isinstance(wire.body, tuple):
            self._send(wire.head, *wire.body)
        else:
            self._send(wire.head, wire.body)
        if not keep:
            self._close()
        elif not self._working:
            self._go_on(now)

    # Requests.

    def _go_on(self, now: float) -> None:
        """An answer was given from outside `_work`: look later at what has arrived meanwhile.

        Later, because whoever answers many held requests must not run the handlers of the next.
        """
        self._heard_at = self._begun_at = now
        if self._input or (self._parser is not None and (self._parser.completed or self._parser.fault)):
            self._yielded = True
            self._transport.wake_at(now)
        else:
            self._settle(now)

    def _work(self, now: float) -> None:
        """Serve requests while there are any and the viewer takes the answers."""
        self._working = True
        budget = REQUESTS_PER_TURN
        try:
            while self._reply is None and not self._closing and self._sink is None:
                if self._transport.queued_bytes > QUEUE_MAX_BYTES:
                    break
                if not budget:
                    self._yielded = True
                    break
                request = self._next_request()
                if request is None:
                    break
                budget -= 1
                self._dispatch(*request, now)
        except BadRequest as fault:
            self._refuse(fault)
        finally:
            self._working = False

    def _settle(self, now: float) -> None:
        """Bring reading, deadlines and the fast path in step with what is left to do."""
        if self._sink is not None:
            self._give_rest(now)
            return
        if self._at >= len(self._input):
            self._input = b""
            self._at = 0
        waiting = len(self._input) - self._at
        parsed = self._parser is not None and bool(self._parser.completed or self._parser.fault)
        partial = self._is_partial()
        full = self._transport.queued_bytes > QUEUE_MAX_BYTES
        busy = bool(waiting or parsed or self._reply is not None)
        self._ready = not (busy or partial or full or self._closing)
        if self._closing:
            return
        if self._eof and not busy:
            self._close()
            return
        if self._paused != (waiting > BACKLOG_MAX_BYTES):
            self._paused = not self._paused
            if self._paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        if partial or self._yielded:
            self._rearm(now)

    def _give_rest(self, now: float) -> None:
        """What follows a request that took over the connection belongs to its sink."""
        rest, self._input = self._input[self._at :], b""
        self._at = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if rest and self._sink is not None:
            self._sink.receive(rest, now)

    def _next_request(self) -> tuple[Head, bytes] | None:
        """The next complete request of the input; None when there is none. Raises BadRequest."""
        parser = self._parser
        while parser is None or not parser.completed:
            if parser is not None and parser.fault is not None:
                raise parser.fault
            partial = parser is not None and parser.partial
            piece = self._next_piece(partial)
            if not piece:
                return None
            if not partial:
                head = self._recognize(piece)
                if head is not None:
                    return head, b""
            if parser is None:
                parser = self._parser = RequestParser(self._site.router.resolve)
            self._feed(parser, piece)
        return parser.completed.popleft()

    def _next_piece(self, partial: bool) -> bytes:
        """Take input for the parser: one head when a request begins here, else a bounded piece."""
        data, start = self._input, self._at
        if partial:
            end = min(start + PIECE_BYTES, len(data))
        else:
            end = data.find(b"\r\n\r\n", start, start + HEAD_MAX_BYTES) + 4
            if end < 4:
                end = len(data)
                if end - start > HEAD_MAX_BYTES:
                    raise BadRequest(431, f"the head is longer than {HEAD_MAX_BYTES} bytes")
        self._at = end
        return data if start == 0 and end == len(data) else data[start:end]

    def _feed(self, parser: RequestParser, piece: bytes) -> None:
        begun, in_body = parser.partial, parser.in_body
        rest = parser.feed(piece)
        if rest:
            self._input = rest + self._input[self._at :]
            self._at = 0
        if parser.partial and (not begun or parser.in_body is not in_body):
            self._begun_at = self._heard_at
        if parser.expects_continue:
            parser.expects_continue = False
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if len(parser.completed) == 1 and not (begun or parser.partial or parser.fault or rest):
            self._site.remember(piece, *parser.completed[0])

    def _dispatch(self, head: Head, body: bytes, now: float) -> None:
        transport = self._transport
        request = Request(head, body, now, transport.peer_host, transport.peer_port, transport.secure)
        reply = self._reply = Reply(self, head)
        route = head.route
        route.requests += 1
        try:
            route.handler(request, reply)
        except Refused as refusal:
            reply.send(plain_error(403, str(refusal)))
        except WireError as fault:
            reply.send(plain_error(400, str(fault)))
        except Unavailable as fault:
            retry = (("Retry-After", str(max(1, round(fault.retry_after_s)))),)
            reply.send(plain_error(503, str(fault), headers=retry))
        except Exception:
            if reply is self._reply:
                route.answers[5] += 1
                self._send(FAILED.plain.wire(self._site.date.closing(now)))
            raise  # the reactor counts and logs it, and drops the connection
        if reply is self._reply or self._sink is not None:
            self._ready = False

    def _refuse(self, fault: BadRequest) -> None:
        """Say what is wrong with the bytes, and close: where the next request begins is not known."""
        refused = self._site.refused
        refused[fault.status] = refused.get(fault.status, 0) + 1
        self._site.on_refused(format_address(self._transport.peer_host, self._transport.peer_port), fault)
        variant = plain_error(fault.status, str(fault)).plain
        self._send(variant.wire(self._site.date.closing(self._site.clock())))
        self._close()

    def _close(self) -> None:
        self._closing = True
        self._ready = False
        self._transport.close()

    # Deadlines. While requests come in time nothing is armed again: the deadline that comes finds
    # out how much is left.

    def _is_partial(self) -> bool:
        return self._parser is not None and self._parser.partial

    def _is_awaited(self) -> bool:
        """Is the client to go on with a request that it began?"""
        return self._is_partial() and self._reply is None and self._at >= len(self._input)

    @property
    def _due_at(self) -> float:
        in_body = self._parser is not None and self._parser.in_body
        return self._begun_at + (BODY_S if in_body else HEAD_S)

    def _rearm(self, now: float) -> None:
        if self._closing or self._sink is not None:
            return
        if self._yielded:
            self._transport.wake_at(now)
        elif self._is_awaited():
            self._transport.wake_at(self._due_at)
        elif self._ready and not self._transport.queued_bytes:
            self._transport.wake_at(self._heard_at + IDLE_S)
        else:
            self._transport.wake_at(now + IDLE_S)
