"""Answers to a push, byte for byte as Go's mime/multipart writer and http.Error make them."""

from dataclasses import dataclass

SUFFIX_TYPES = {".ts": "video/mp2t", ".mp4": "video/mp4"}
URI_TYPE = "application/vnd+livepeer.uri"
BOUNDARY_BYTES = 10  # twenty hexadecimal digits


@dataclass(frozen=True, slots=True)
class Part:
    """One rendition in an answer. `uri` in place of data when it lies in an outer store."""

    name: str
    sequence: int
    extension: str
    data: bytes
    uri: str = ""
    length: int | None = None  # what Content-Length says, when that is to be a lie


def part_head(part: Part, boundary: str, *, first: bool) -> bytes:
    """From the boundary to the empty line, headers in alphabetical order."""
    extension = ".txt" if part.uri else part.extension
    filename = f"{part.name}_{part.sequence}{extension}"
    kind = URI_TYPE if part.uri else SUFFIX_TYPES[part.extension]
    length = len(part_body(part)) if part.length is None else part.length
    return (
        f"{'' if first else chr(13) + chr(10)}--{boundary}\r\n"
        f'Content-Disposition: attachment; filename="{filename}"\r\n'
        f"Content-Length: {length}\r\n"
        f'Content-Type: {kind}; name="{filename}"\r\n'
        f"Rendition-Name: {part.name}\r\n\r\n"
    ).encode()


def part_body(part: Part) -> bytes:
    return part.uri.encode() if part.uri else part.data


def closing(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode()


def multipart(parts: list[Part], boundary: str) -> list[bytes]:
    """The body of a success as the pieces that are written, one or two for each part and the end."""
    pieces = []
    for number, part in enumerate(parts):
        pieces += [part_head(part, boundary, first=number == 0), part_body(part)]
    return [*pieces, closing(boundary)]


def multipart_type(boundary: str) -> str:
    """The value of Content-Type; the boundary is not quoted."""
    return f"multipart/mixed; boundary={boundary}"


def error_headers(body: bytes, date: str) -> list[tuple[str, str]]:
    """Headers of Go's http.Error, in the order in which Go writes them."""
    return [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Date", date),
        ("Content-Length", str(len(body))),
    ]
