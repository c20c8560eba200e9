"""A worker's side: has those of the agent's streams that its viewers ask for. Pure.

What the agent has is known from its catalog, so that a name which nobody has is 404 at the price
of a look-up. Where other nodes may have more, the agent is asked first, and the request is held
until it has answered; what it found is in the catalog then.
"""

from collections.abc import Callable, Iterator
from hashlib import blake2b

import msgspec

from fwnode.promise.door import Lent
from fwnode.workers.consulting import FarAnswers
from fwnode.workers.wire import (
    HEARD_MAX,
    VISITS_MAX,
    Answer,
    Ask,
    Asked,
    AskPoster,
    Catalog,
    Counts,
    Drain,
    Entry,
    Heard,
    Lend,
    Media,
    Poster,
    Ready,
    Refusals,
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
    encode,
    worker_reader,
)
from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import Response, plain_error
from media.deliver.http.router import Handler
from media.deliver.poster.posters import FRESH_S, WAITERS_MAX, Waiter, poster_response
from media.deliver.quality.model import Sighting, Totals, joined
from media.errors import Refused as NotTaken
from media.errors import WireError
from media.net.transport import Transport
from media.replicate.replica import Event, Failed, Lost, Replica
from media.replicate.signing import Identity
from media.track.registry import STREAM_NAME, STREAMS_MAX, Streams
from media.track.ring import RING_BYTES_MAX
from media.track.stream import Source, Stream, StreamState

REPORT_S = 1.0  # between reports; viewers in the agent's views are as old as that
IDLE_S = 30.0  # nobody watched for so long: twice what a viewer by HLS counts after its last request
REST_S = 1.0  # a copy that failed is not begun again at once, or every request would
HELD_MAX = 4096  # requests that wait until the agent was asked: less than a millisecond of them
POSTERS_MAX = 256  # as media.deliver.poster.posters keeps them
PAST_BYTES_MAX = RING_BYTES_MAX  # of a stream before it is taken in: all that its ring may hold
NO_KEY = b""  # there is nobody else on an inherited socket: nothing to verify
BUSY = plain_error(503, "too many posters are being made: try again later", headers=(("Retry-After", "2"),))

Log = Callable[[str, str, str], None]  # event, stream, reason


class Visits:
    """Viewers by HLS since the last report; an Attendance that counts in the agent."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], bool] = {}

    def __len__(self) -> int:
        return 0  # nothing here needs a sweep

    def seen(self, stream: Stream, session: str, now: float) -> None:
        key = (stream.name, blake2b(session.encode(), digest_size=12).hexdigest())
        if key in self._seen:
            self._seen[key] = True
        elif len(self._seen) < VISITS_MAX:
            self._seen[key] = False

    def sweep(self, now: float) -> None:
        """Nothing is kept beyond a report."""

    def take(self) -> list[Visit]:
        """Those since the call before."""
        seen, self._seen = self._seen, {}
        return [Visit(name, session, again) for (name, session), again in seen.items()]


class Overheard:
    """What players told since the last report; a Taker whose board is the agent's."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self.totals = Totals()
        self._is_known = is_known
        self._heard: dict[tuple[str, int, bool], Sighting] = {}

    def take(self, name: str, sighting: Sighting, now: float) -> bool:
        if not self._is_known(name):
            return False
        key = (name, sighting.session, sighting.requests > 0)
        before = self._heard.get(key)
        if before is None and len(self._heard) >= HEARD_MAX:
            self.totals.limited += 1
        else:
            self._heard[key] = sighting if before is None else joined(before, sighting)
        return True

    def report(self) -> tuple[list[Heard], Refusals]:
        """What there is since the call before."""
        heard, self._heard = self._heard, {}
        totals, self.totals = self.totals, Totals()
        refusals = Refusals(totals.malformed, totals.limited, totals.unknown)
        return [Heard(name, sighting) for (name, _, _), sighting in heard.items()], refusals


class _Copy:
    """One subscription."""

    def __init__(self, number: int, entry_id: int, replica: Replica) -> None:
        self.number = number
        self.entry_id = entry_id
        self.replica = replica
        self.past: bytearray | None = bytearray()  # what came before it was whole

    @property
    def stream(self) -> Stream:
        return self.replica.writer.stream


class Mirror:
    """The protocol of the agent's socket, once Start was read from it."""

    def __init__(
        self,
        streams: Streams,
        unix_us: Callable[[], int],
        counts: Callable[[], Counts],
        log: Log,
        *,
        on_begin: Callable[[], None],
        on_drain: Callable[[], None],
        on_renew: Callable[[], None],
        on_lost: Callable[[], None],
        on_lend: Callable[[Lent], None] = lambda lent: None,
    ) -> None:
        """`counts` are this process's.

        `on_begin`: it is known what there is, and viewers may come; `on_lost`: the agent is gone, or
        lets this worker go; `on_lend`: it may let these viewers in.
        """
        self._on_lend = on_lend
        self.visits = Visits()
        self.quality = Overheard(lambda name: name in self._catalog)
        self._streams = streams
        self._unix_us = unix_us
        self._counts = counts
        self._log = log
        self._on = {Drain: on_drain, Renew: on_renew}
        self._on_begin: Callable[[], None] | None = on_begin
        self._on_lost = on_lost
        self._transport: Transport | None = None
        self._reader = worker_reader()
        self._elsewhere = False
        self._catalog: dict[str, Entry] = {}
        self._copies: dict[int, _Copy] = {}
        self._by_name: dict[str, _Copy] = {}
        self._last_number = 0
        self._resting: dict[str, float] = {}  # until when
        self._held: dict[str, dict[object, Callable[[], None]]] = {}  # by the name that was asked for
        self._held_count = 0
        self._posters = _FarPosters(self._say)
        self.answers = FarAnswers(self._say)
        self._reported_at = 0.0
        streams.fetch = self._fetch
        streams.subscribe(self._changed)

    # What the worker's delivery is made of.

    def __iter__(self) -> Iterator[Entry]:
        """Streams for the home page."""
        return iter(self._catalog.values())

    @property
    def posters(self) -> "_FarPosters":
        """Asks the agent; a PosterSource."""
        return self._posters

    def asking_first(self, handler: Handler) -> Handler:
        """`handler` for /live/, held while the agent is asked for a name that is not in the catalog."""

        def handle(request: Request, reply: Reply) -> None:
            name = request.segments[1] if len(request.segments) > 1 else ""
            if len(request.segments) == 2:
                name = name.rpartition(".")[0]
            if not self._is_unsure(name):
                handler(request, reply)
                return
            self._hold(name, request, reply, handler)

        return handle

    # What the reactor calls.

    def start(self, transport: Transport, now: float) -> "Mirror":
        """The socket is there: a ProtocolFactory."""
        self._transport = transport
        self.on_deadline(now)
        return self

    def receive(self, data: bytes, now: float) -> None:
        for message in self._reader.feed(data):
            if isinstance(message, Media):
                self._take(message, now)
            else:
                self._hear(message, now)

    def receive_eof(self, now: float) -> None:
        assert self._transport is not None
        self._transport.abort()

    def drained(self, now: float) -> None:
        """Reports are small, and the agent reads."""

    def on_deadline(self, now: float) -> None:
        assert self._transport is not None
        self._report(now)
        self._let_go(now)
        self._transport.wake_at(now + REPORT_S)

    def closed(self, now: float) -> None:
        self._on_lost()

    # What the agent says.

    def _hear(self, message: ToWorker, now: float) -> None:
        match message:
            case Catalog():
                self._take_catalog(message, now)
            case Asked():
                for resume in self._held.pop(message.name, {}).values():
                    self._held_count -= 1
                    resume()
            case Whole():
                copy = self._copies.get(message.number)
                if copy is not None:
                    self._receive_past(copy, now)
            case Refused():
                copy = self._copies.get(message.number)
                if copy is not None:
                    self._abandon(copy, "the agent does not have it", now)
            case Answer():
                self.answers.give(message)
            case Poster():
                self._posters.give(message, now)
            case Start():
                raise WireError("a second start")
            case Lend():
                self._on_lend(message.lent)
            case Drain() | Renew():
                self._on[type(message)]()

    def _take_catalog(self, catalog: Catalog, now: float) -> None:
        self._elsewhere = catalog.elsewhere
        self._catalog = {entry.name: entry for entry in catalog.entries}
        for name in self._streams.awaited():
            self._streams.find(name, now)
        begin, self._on_begin = self._on_begin, None
        if begin is not None:
            begin()
            self._say(Ready())

    def _take(self, media: Media, now: float) -> None:
        copy = self._copies.get(media.number)
        if copy is None:
            return  # it was let go while this was on its way
        # A viewer who is given a playlist of the first segments only begins far behind.
        if copy.past is None:
            self._receive(copy, media.data, now)
            return
        copy.past += media.data
        if len(copy.past) > PAST_BYTES_MAX:
            self._receive_past(copy, now)

    def _receive_past(self, copy: _Copy, now: float) -> None:
        past, copy.past = copy.past, None
        if past:
            self._receive(copy, bytes(past), now)

    def _receive(self, copy: _Copy, data: bytes, now: float) -> None:
        name = copy.stream.name
        try:
            events = copy.replica.receive(data, now)
        except WireError as error:
            self._log("stream not understood", name, str(error))
            self._fail(copy, str(error), now)
            return
        for event in events:
            self._note(copy, event, now)

    def _note(self, copy: _Copy, event: Event, now: float) -> None:
        if isinstance(event, Lost):
            self._abandon(copy, event.reason, now)
        elif isinstance(event, Failed):
            self._log("stream altered", copy.stream.name, event.failure.fault.value)
            self._fail(copy, "its parts do not fit", now)

    def _fail(self, copy: _Copy, reason: str, now: float) -> None:
        self._resting[copy.stream.name] = now + REST_S
        self._abandon(copy, reason, now)

    def _abandon(self, copy: _Copy, reason: str, now: float) -> None:
        """It ends here; what is still to be had of it are its last segments."""
        self._unsubscribe(copy)
        copy.replica.abandon(reason, now)

    def _unsubscribe(self, copy: _Copy) -> None:
        if self._copies.pop(copy.number, None) is not None:
            self._say(Unsubscribe(copy.number))

    # Copies.

    def _fetch(self, name: str, now: float) -> None:
        """A viewer looks for a stream that is not here, or has ended here."""
        entry, held = self._catalog.get(name), self._by_name.get(name)
        if entry is None or self._resting.get(name, now) > now:
            return
        if held is not None and held.entry_id == entry.id and entry.state is StreamState.ENDED:
            return  # all of it that there is
        self._last_number += 1
        number = self._last_number
        try:
            writer = self._streams.open_copy(
                name, Source("agent", ""), now, self._unix_us(), lambda reason: None
            )
        except NotTaken as refused:
            self._log("stream not taken", name, str(refused))
            return
        replica = Replica(writer, Identity(name, entry.id), NO_KEY, lambda key, message, signature: True)
        replica.adopt()
        copy = self._copies[number] = self._by_name[name] = _Copy(number, entry.id, replica)
        self._say(Subscribe(copy.number, name))

    def _changed(self, name: str, now: float) -> None:
        """Listener of the registry: what it holds no more needs no subscription."""
        copy = self._by_name.get(name)
        if copy is not None and self._streams.get(name) is not copy.stream:
            del self._by_name[name]
            self._unsubscribe(copy)

    def _let_go(self, now: float) -> None:
        """What nobody watches ends here, and begins again with the next viewer."""
        for copy in list(self._copies.values()):
            stream = copy.stream
            idle = not any(stream.viewers.values()) and now - stream.asked_at >= IDLE_S
            if idle and stream.state is not StreamState.ENDED:
                self._abandon(copy, "nobody watches it here", now)
        self._resting = {name: until for name, until in self._resting.items() if until > now}

    # Names.

    def _is_unsure(self, name: str) -> bool:
        """Whether only the agent knows if that name can be had."""
        if not self._elsewhere or self._held_count >= HELD_MAX or not STREAM_NAME.fullmatch(name):
            return False
        entry = self._catalog.get(name)
        return entry is None or entry.state is StreamState.ENDED

    def _hold(self, name: str, request: Request, reply: Reply, handler: Handler) -> None:
        token = object()

        def resume() -> None:
            reply.on_close = None
            handler(request, reply)

        def leave(now: float) -> None:
            waiting = self._held.get(name)
            if waiting is not None and waiting.pop(token, None) is not None:
                self._held_count -= 1

        is_first = name not in self._held
        self._held.setdefault(name, {})[token] = resume
        self._held_count += 1
        reply.on_close = leave
        if is_first:
            self._say(Ask(name))

    # What is told.

    def _report(self, now: float) -> None:
        since, self._reported_at = self._reported_at, now
        watched = [
            Watched(
                copy.number,
                {protocol: count for protocol, count in copy.stream.viewers.items() if count},
                copy.stream.reader_skips,
            )
            for copy in self._copies.values()
        ]
        asked = [copy.stream.name for copy in self._copies.values() if copy.stream.asked_at >= since]
        awaited = [name for name in self._streams.awaited() if STREAM_NAME.fullmatch(name)]
        report = Report(
            self._counts(), watched, asked, awaited[:STREAMS_MAX], self.visits.take(), *self.quality.report()
        )
        self._say(report)

    def _say(self, message: ToAgent) -> None:
        if self._transport is not None:
            self._transport.send(encode(message))


class _FarPosters:
    """Posters that the agent makes: asked for once for all who want the same, and kept while fresh."""

    def __init__(self, say: Callable[[ToAgent], None]) -> None:
        self._say = say
        self._kept: dict[str, tuple[Response, float]] = {}
        self._waiting: dict[str, dict[Waiter, None]] = {}
        self._names: dict[int, str] = {}
        self._waiters = 0
        self._last_number = 0

    def ask(self, streams: Streams, name: str, reply: Waiter, now: float) -> bool:
        """Give the poster of the stream of that name, now or when the agent has answered."""
        kept = self._kept.get(name)
        if kept is not None and now < kept[1]:
            reply.send(kept[0])
        elif not STREAM_NAME.fullmatch(name):
            return False
        elif self._waiters >= WAITERS_MAX:
            reply.send(BUSY)
        else:
            self._wait(name, reply)
        return True

    def give(self, poster: Poster, now: float) -> None:
        """What the agent said."""
        name = self._names.pop(poster.number, None)
        if name is None:
            return
        response = _poster_answer(poster)
        if poster.status == 200:
            self._kept.pop(name, None)
            self._kept[name] = (response, now + FRESH_S / 2)  # the agent's may have been half as old
            if len(self._kept) > POSTERS_MAX:
                del self._kept[next(iter(self._kept))]
        for reply in self._waiting.pop(name, {}):
            self._waiters -= 1
            reply.on_close = None
            reply.send(response)

    def _wait(self, name: str, reply: Waiter) -> None:
        is_first = name not in self._waiting
        self._waiting.setdefault(name, {})[reply] = None
        self._waiters += 1
        reply.on_close = lambda now: self._left(name, reply)
        if is_first:
            self._last_number += 1
            self._names[self._last_number] = name
            self._say(AskPoster(self._last_number, name))

    def _left(self, name: str, reply: Waiter) -> None:
        if self._waiting.get(name, {}).pop(reply, reply) is None:
            self._waiters -= 1


def _poster_answer(poster: Poster) -> Response:
    if poster.status == 200:
        return poster_response(poster.body)
    again = (("Retry-After", "2"),) if poster.status == 503 else ()
    return plain_error(poster.status, poster.body.decode("utf-8", "replace").rstrip(), headers=again)


def first_message(body: bytes) -> Start:
    """The Start that a worker reads before anything else, without its frame's head. Raises WireError."""
    try:
        return msgspec.msgpack.decode(body, type=Start)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"not a start: {error}") from None
