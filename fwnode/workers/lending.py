"""The agent's side of its workers: what it lends them, and one worker's link. Pure.

A worker is fed as an edge would be, from the stream's own ring, and tells who watches; that is
counted into the streams here, so that whoever looks at the agent sees all viewers.
"""

from collections.abc import Callable

from fwnode.promise.door import Lent
from fwnode.workers.crew import Worker
from fwnode.workers.vouchers import Vouchers
from fwnode.workers.wire import (
    HEAD,
    Answer,
    Ask,
    Asked,
    AskPoster,
    Catalog,
    Consult,
    Drain,
    Entry,
    Lend,
    Poster,
    Ready,
    Refused,
    Renew,
    Report,
    Start,
    Subscribe,
    ToAgent,
    ToWorker,
    Unsubscribe,
    Visit,
    Watched,
    Whole,
    agent_reader,
    encode,
)
from media.deliver.http.response import Response
from media.deliver.live import Attendance, PosterSource
from media.deliver.quality.beacon import Taker
from media.errors import WireError
from media.net.transport import Transport
from media.replicate.publication import Publication
from media.replicate.wire import Want
from media.track.registry import STREAMS_MAX, Streams
from media.track.stream import Stream

PULL_BYTES = 65536  # taken from a stream at once: what one system call sends
AHEAD_BYTES = 1 << 20  # on a worker's socket before its streams wait: half a second of twenty of them
ASKS_MAX = 4096  # posters that one worker waits for; each is one held request there
NO_POSTER = b"no such stream is live here now\n"


class Lending:
    """What all workers share. Every method is for the thread that runs the reactor."""

    def __init__(
        self,
        streams: Streams,
        posters: PosterSource,
        audience: Attendance,
        *,
        quality: Taker,
        history_us: int,
        now: float,
    ) -> None:
        """`audience` counts viewers by HLS, `quality` keeps what they see, `history_us` of a past is sent."""
        self.streams = streams
        self.posters = posters
        self.audience = audience
        self.quality = quality
        self.history_us = history_us
        self.vouchers = Vouchers(streams, now)
        self.links: dict[WorkerLink, None] = {}
        self.draining = False
        # What a worker asks before it serves a request; without it, it serves all that come to it.
        self.consult: Callable[[Consult, float], Answer] = lambda message, now: Answer(message.number, 0)
        self._told = b""
        self.lent = encode(Lend(Lent()))
        streams.subscribe(self._changed)

    def catalog(self) -> bytes:
        """Every stream as a frame."""
        entries = [
            Entry(stream.name, signer.identity.epoch, stream.state, sum(stream.viewers.values()))
            for stream in self.streams
            if (signer := self.vouchers.get(stream.name)) is not None
        ]
        return encode(Catalog(self.streams.fetch is not None, entries[:STREAMS_MAX]))

    def tell(self) -> None:
        """Send the catalog to every worker if it changed."""
        told = self.catalog()
        if told != self._told:
            self._told = told
            for link in tuple(self.links):
                link.send(told)

    def say(self, message: ToWorker) -> None:
        """To every worker."""
        frame = encode(message)
        for link in tuple(self.links):
            link.send(frame)

    def lend(self, lent: Lent) -> None:
        """What each worker may do by itself."""
        frame = encode(Lend(lent))
        if frame != self.lent:
            self.lent = frame
            for link in tuple(self.links):
                link.send(frame)

    def drain(self) -> None:
        """The node is about to stop."""
        self.draining = True
        self.say(Drain())

    def renew(self) -> None:
        """The certificate's files were renewed."""
        self.say(Renew())

    def _changed(self, name: str, now: float) -> None:
        self.tell()


class WorkerLink:
    """The protocol of one worker's socket. `on_ready` is called when it accepts connections."""

    def __init__(
        self,
        transport: Transport,
        lending: Lending,
        worker: Worker,
        start: Start,
        now: float,
        *,
        on_ready: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        self.heard_at = now
        self._transport = transport
        self._lending = lending
        self._worker = worker
        self._on_ready = on_ready
        self._on_closed = on_closed
        self._reader = agent_reader()
        self._loans: dict[int, _Loan] = {}
        self._last_number = 0
        self._posters: dict[int, _PosterReply] = {}
        self.send(encode(start))
        self.send(lending.lent)  # before anybody is let in
        self.send(lending.catalog())
        if lending.draining:
            self.send(encode(Drain()))
        lending.links[self] = None

    def send(self, frame: bytes) -> None:
        """One message."""
        self._transport.send(frame)

    def abort(self) -> None:
        """The worker is of no more use."""
        self._transport.abort()

    # What the reactor calls.

    def receive(self, data: bytes, now: float) -> None:
        self.heard_at = now
        for message in self._reader.feed(data):
            assert not isinstance(message, tuple), "a worker sends no media"
            self._hear(message, now)

    def receive_eof(self, now: float) -> None:
        self._transport.abort()

    def drained(self, now: float) -> None:
        self._pump()

    def on_deadline(self, now: float) -> None:
        """None is asked for."""

    def closed(self, now: float) -> None:
        self._lending.links.pop(self, None)
        for loan in self._loans.values():
            loan.end()
        self._loans.clear()
        posters, self._posters = self._posters, {}
        for reply in posters.values():
            reply.leave(now)
        self._on_closed()

    # What the worker says.

    def _hear(self, message: ToAgent, now: float) -> None:
        match message:
            case Report():
                self._count(message, now)
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe():
                loan = self._loans.pop(message.number, None)
                if loan is not None:
                    loan.end()
            case Ask():
                self._lending.streams.find(message.name, now)
                self._lending.tell()
                self.send(encode(Asked(message.name)))
            case Consult():
                self.send(encode(self._lending.consult(message, now)))
            case AskPoster():
                self._ask_poster(message, now)
            case Ready():
                self._on_ready()

    def _subscribe(self, message: Subscribe) -> None:
        number = message.number
        if number <= self._last_number:
            raise WireError(f"a subscription has a number that was used before: {number}")
        self._last_number = number
        signer = self._lending.vouchers.get(message.name)
        if signer is None or len(self._loans) >= 2 * STREAMS_MAX:
            self.send(encode(Refused(number)))
            return

        def ready(now: float) -> None:
            while self._lend(number, loan):
                pass

        want = Want(history_us=self._lending.history_us)
        loan = _Loan(signer.stream, Publication(signer.stream, signer.proofs, signer.identity, want, ready))
        self._loans[number] = loan
        self._pump()

    def _pump(self) -> None:
        """Send what there is, a piece of each stream in turn, while the worker takes it."""
        moved = True
        while moved and self._transport.queued_bytes < AHEAD_BYTES:
            moved = False
            for number, loan in tuple(self._loans.items()):
                moved |= self._lend(number, loan)

    def _lend(self, number: int, loan: "_Loan") -> bool:
        """Send a piece of one stream; False when there is none now, or no room."""
        if self._transport.queued_bytes >= AHEAD_BYTES:
            return False
        frames = loan.publication.pull(PULL_BYTES)
        if not frames:
            if not loan.whole:
                loan.whole = True
                self.send(encode(Whole(number)))
            return False
        self._transport.send(HEAD.pack(sum(map(len, frames)), number), *frames)
        return True

    def _count(self, report: Report, now: float) -> None:
        self._worker.counts = report.counts
        for watched in report.watched:
            loan = self._loans.get(watched.number)
            if loan is not None:
                loan.count(watched)
        streams = self._lending.streams
        for name in report.awaited:
            streams.find(name, now)
        for name in report.asked:
            stream = streams.get(name)
            if stream is not None:
                stream.asked_at = now
        for visit in report.visits:
            self._count_visit(visit, now)
        quality = self._lending.quality
        for heard in report.heard:
            quality.take(heard.name, heard.sighting, now)
        quality.totals.malformed += report.refusals.malformed
        quality.totals.limited += report.refusals.limited
        quality.totals.unknown += report.refusals.unknown

    def _count_visit(self, visit: Visit, now: float) -> None:
        stream = self._lending.streams.get(visit.name)
        if stream is not None:
            for _ in range(1 + visit.again):
                self._lending.audience.seen(stream, visit.session, now)

    def _ask_poster(self, message: AskPoster, now: float) -> None:
        if message.number in self._posters or len(self._posters) >= ASKS_MAX:
            raise WireError("a worker asks for too many posters")
        reply = _PosterReply(self, message.number)
        self._posters[message.number] = reply
        if not self._lending.posters.ask(self._lending.streams, message.name, reply, now):
            self.give_poster(message.number, 404, NO_POSTER)

    def give_poster(self, number: int, status: int, body: bytes) -> None:
        """The answer to what the worker asked under that number."""
        if self._posters.pop(number, None) is not None:
            self.send(encode(Poster(number, status, body)))


class _Loan:
    """A stream that one worker is sent, and its viewers there."""

    def __init__(self, stream: Stream, publication: Publication) -> None:
        self.publication = publication
        self.whole = False  # it was sent all that there was
        self._stream = stream
        self._counted: dict[str, int] = {}
        self._skips = 0

    def count(self, watched: Watched) -> None:
        """Its viewers are these."""
        viewers = self._stream.viewers
        for protocol in self._counted.keys() | watched.viewers.keys():
            more = watched.viewers.get(protocol, 0) - self._counted.get(protocol, 0)
            viewers[protocol] = viewers.get(protocol, 0) + more
        self._counted = dict(watched.viewers)
        self._stream.reader_skips += max(0, watched.skips - self._skips)
        self._skips = watched.skips

    def end(self) -> None:
        """The worker has it no more, or is gone."""
        self.publication.close()
        for protocol, count in self._counted.items():
            self._stream.viewers[protocol] -= count
        self._counted = {}


class _PosterReply:
    """Stands for a request that a worker holds."""

    def __init__(self, link: WorkerLink, number: int) -> None:
        self.on_close: Callable[[float], None] | None = None
        self._link = link
        self._number = number

    def send(self, response: Response) -> None:
        assert isinstance(response.body, bytes), "posters and errors are plain bytes"
        self._link.give_poster(self._number, response.status, response.body)

    def leave(self, now: float) -> None:
        """The worker is gone."""
        if self.on_close is not None:
            self.on_close(now)
