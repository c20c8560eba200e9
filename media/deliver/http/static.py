"""A fixed set of files, each prepared once as a response. Pure: `store.py` reads them."""

import hashlib
import re
from collections.abc import Mapping

from media.deliver.http.reply import Reply
from media.deliver.http.request import Request
from media.deliver.http.response import IMMUTABLE, NO_CACHE, Response, plain_error

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "jpg": "image/jpeg",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "mjs": "text/javascript; charset=utf-8",
    "mp4": "video/mp4",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
_PACKED = {"ico", "jpg", "mp4", "png", "woff2"}  # gzip gains nothing on these
_HASHED = re.compile(r"[.-][0-9a-f]{8,64}\.\w+$")  # name.3f2a9c1b.js: the name changes with the bytes
ETAG_CHARACTERS = 20

_NOT_FOUND = plain_error(404, "there is no such file")


def file_response(name: str, data: bytes, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A file as an answer: its type by its extension, immutable when its name has a hash of it."""
    extension = name.rpartition(".")[2].lower()
    return Response(
        200,
        data,
        content_type=TYPES.get(extension, "application/octet-stream"),
        cache_control=IMMUTABLE if _HASHED.search(name) else NO_CACHE,
        etag=content_etag(data),
        headers=(("X-Content-Type-Options", "nosniff"), *headers),
        compress=extension not in _PACKED,
    )


def content_etag(data: bytes) -> str:
    """An entity tag that names these bytes."""
    return hashlib.blake2b(data, digest_size=ETAG_CHARACTERS // 2).hexdigest()


class StaticFiles:
    """Serves files by the path below a prefix; a handler for `Router.add("GET", "/first/*", …)`."""

    def __init__(self, prefix: str, files: Mapping[str, bytes]) -> None:
        """`files` by their path relative to `prefix`, which begins and ends with "/"."""
        self._responses = {prefix + name: file_response(name, data) for name, data in files.items()}
        for response in self._responses.values():
            response.variant(gzip_accepted=True)

    def __call__(self, request: Request, reply: Reply) -> None:
        reply.send(self._responses.get(request.path, _NOT_FOUND))
