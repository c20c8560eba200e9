"""A worker's viewers and the choice of nodes, which is the agent's: asked for each request that may be for
another node, and waited for. Pure.
"""

from collections.abc import Callable

from fwnode.delivery import MAY_BE_ELSEWHERE
from fwnode.workers.wire import Answer, Consult, ToAgent
from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import Response, error
from media.deliver.http.router import Handler, Router

CONSULTS_MAX = 4096  # that one worker waits for; each is one held request
SERVE_IT = 0  # the status of an answer that is none
BUSY = error(503, "busy", "too many viewers ask at once: try again", headers=(("Retry-After", "1"),))
LOOKED_AT = (
    b"host",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"cmcd-session",
    b"user-agent",
    b"sec-fetch-site",
    b"sec-fetch-mode",
)


class FarAnswers:
    """A worker's side; a Steering of fwnode.delivery."""

    def __init__(self, say: Callable[[ToAgent], None]) -> None:
        self._say = say
        self._waiting: dict[int, tuple[Request, Reply, Handler]] = {}
        self._last_number = 0

    def add_to(self, router: Router) -> None:
        """As fwnode.steering.answers.Answers.add_to."""
        for name in ("play", "ingest"):
            router.add("GET", f"/{name}/*", self._ask_always, name=name)
        for route in router.routes:
            if route.name in MAY_BE_ELSEWHERE:
                route.handler = self._before(route.handler, MAY_BE_ELSEWHERE[route.name])

    def give(self, answer: Answer) -> None:
        """What the agent said."""
        request, reply, handler = self._waiting.pop(answer.number, (None, None, None))
        if request is None or reply is None or handler is None:
            return
        reply.on_close = None
        if answer.status == SERVE_IT:
            handler(request, reply)
        else:
            content_type, *headers = answer.headers
            reply.send(
                Response(answer.status, answer.body, content_type=content_type[1], headers=tuple(headers))
            )

    def _before(self, handler: Handler, concerns: Callable[[tuple[str, ...]], bool]) -> Handler:
        def handle(request: Request, reply: Reply) -> None:
            if concerns(request.head.segments):
                self._ask(request, reply, handler)
            else:
                handler(request, reply)

        return handle

    def _ask_always(self, request: Request, reply: Reply) -> None:
        self._ask(request, reply, _busy)

    def _ask(self, request: Request, reply: Reply, handler: Handler) -> None:
        if len(self._waiting) >= CONSULTS_MAX:
            handler(request, reply)
            return
        self._last_number += 1
        number, fields = self._last_number, request.head.fields
        self._waiting[number] = request, reply, handler
        reply.on_close = lambda now: self._left(number)
        told = {name.decode(): fields[name] for name in LOOKED_AT if name in fields}
        self._say(Consult(number, request.target, told, request.peer_host, request.secure))

    def _left(self, number: int) -> None:
        self._waiting.pop(number, None)


def _busy(request: Request, reply: Reply) -> None:
    reply.send(BUSY)
