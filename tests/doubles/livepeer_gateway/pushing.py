"""A strict pusher for tests: one request, and an answer taken apart byte by byte."""

import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ANSWER_S = 60.0
HEAD = re.compile(
    rb'Content-Disposition: attachment; filename="([^"]+)"\r\n'
    rb"Content-Length: (\d+)\r\n"
    rb'Content-Type: ([^;\r]+); name="([^"]+)"\r\n'
    rb"Rendition-Name: ([^\r]+)\r\n\r\n"
)
PARTS = {"Accept": "multipart/mixed"}


@dataclass(frozen=True, slots=True)
class Rendition:
    """One part of an answer."""

    name: str
    filename: str
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case names, the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").rstrip("\n")

    @property
    def renditions(self) -> list[Rendition]:
        """The parts; ValueError for a body that is not framed to the byte."""
        kind, _, boundary = self.headers.get("content-type", "").partition("; boundary=")
        if kind != "multipart/mixed" or not re.fullmatch(r"[0-9a-f]{20}", boundary):
            raise ValueError(f"no multipart answer: {self.headers}")
        return list(_parts(self.body, boundary.encode()))


def _parts(body: bytes, boundary: bytes) -> Iterator[Rendition]:
    at, between = 0, b"--" + boundary + b"\r\n"
    while body.startswith(between, at):
        found = HEAD.match(body, at + len(between))
        if found is None:
            raise ValueError(f"headers of a part: {body[at : at + 300]!r}")
        begin = found.end()
        at = begin + int(found[2])
        if found[1] != found[4] or at > len(body):
            raise ValueError("a part's names or length")
        yield Rendition(found[5].decode(), found[1].decode(), found[3].decode(), body[begin:at])
        between = b"\r\n--" + boundary + b"\r\n"
    if body[at:] != b"\r\n--" + boundary + b"--\r\n":
        raise ValueError(f"the end of the answer: {body[at : at + 60]!r}")


def configuration(*profiles: dict[str, Any], **more: object) -> dict[str, str]:
    """The header that asks for these renditions."""
    return {"Livepeer-Transcode-Configuration": json.dumps({"profiles": list(profiles), **more})}


def profile(name: str, width: int = 160, height: int = 90, **more: object) -> dict[str, Any]:
    return {"name": name, "width": width, "height": height, "bitrate": 150_000, **more}


def push(
    url: str,
    path: str,
    body: bytes | Iterator[bytes],
    headers: dict[str, str] | None = None,
    method: str = "POST",
    timeout_s: float = ANSWER_S,
) -> Answer:
    """One request on a connection of its own. Raises OSError, http.client.HTTPException."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        return ask(connection, path, body, headers, method)
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: bytes | Iterator[bytes],
    headers: dict[str, str] | None = None,
    method: str = "POST",
) -> Answer:
    """One request on a connection that may serve another."""
    given = {"Content-Duration": "1000", **PARTS, **(headers or {})}
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    named = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, named, answer.read())
