"""Answers what a worker asks about a request that may be for another node. Pure."""

from fwnode.steering.answers import Answers
from fwnode.workers.wire import Answer, Consult
from media.deliver.http.errors import BadRequest
from media.deliver.http.request import FieldSet, Head, Request
from media.deliver.http.response import CORS, Response

SERVE_IT = 0  # the status of an answer that is none


def consult(answers: Answers, message: Consult, now: float) -> Answer:
    """The agent's side of `fwnode.workers.consulting`."""
    fields = {name.encode(): value for name, value in message.fields.items()}
    try:
        head = Head("GET", message.target, "1.0", FieldSet(fields), keep_alive=True)
    except BadRequest:
        return Answer(message.number, SERVE_IT)
    kept: list[Response] = []
    request = Request(head, b"", now, message.peer_host, 0, message.secure)
    if not answers.judge(request, _Kept(kept)) or not kept:
        return Answer(message.number, SERVE_IT)
    response = kept[0]
    assert isinstance(response.body, bytes), "JSON, a sentence, or nothing"
    return Answer(message.number, response.status, _headers_of(response), response.body)


class _Kept:
    """Stands for a request that a worker holds."""

    def __init__(self, kept: list[Response]) -> None:
        self._kept = kept

    def send(self, response: Response) -> None:
        self._kept.append(response)


def _headers_of(response: Response) -> list[tuple[str, str]]:
    """The content type, which may be empty, and what else a Response is not given by itself."""
    lines = response.fields.removesuffix(CORS).decode("ascii").split("\r\n")
    found = dict(line.split(": ", 1) for line in lines if line)
    others = [(name, found[name]) for name in ("Location", "Retry-After") if name in found]
    return [("Content-Type", found.get("Content-Type", "")), *others]
