"""What a response becomes for a request: conditions, ranges, codings, errors, dates."""

import gzip
from typing import Any

import pytest

from media.deliver.http.request import FieldSet, Head
from media.deliver.http.response import (
    DateLine,
    Response,
    body_length,
    error,
    parse_range_untrusted,
    plain_error,
    redirect,
    select,
    slice_body,
)
from media.errors import StateError
from media.net.transport import FileSlice

TAIL = b"\r\n"
DIGITS = bytes(range(48, 58)) * 10
FILE = Response(200, DIGITS, content_type="video/mp4", etag="d")


def head(method: str = "GET", **fields: bytes) -> Head:
    named = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    return Head(method, b"/", "1.1", FieldSet({b"host": b"h", **named}), True)


def chosen(response: Response, method: str = "GET", **fields: bytes) -> tuple[int, dict[str, str], Any]:
    wire = select(response, head(method, **fields), TAIL)
    first, *lines = wire.head.decode().removesuffix("\r\n\r\n").split("\r\n")
    assert first.startswith(f"HTTP/1.1 {wire.status} ")
    body = wire.body if isinstance(wire.body, FileSlice) else b"".join(map(bytes, _parts(wire.body)))
    assert wire.length == body_length(wire.body)
    return wire.status, dict(line.split(": ", 1) for line in lines), body


def _parts(body: Any) -> tuple[Any, ...]:
    return body if isinstance(body, tuple) else (body,)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (b'"d"', 304),
        (b'W/"d"', 304),
        (b'"x", "d"', 304),
        (b'"d-gzip"', 304),
        (b"*", 304),
        (b'"x"', 200),
        (b"d", 200),
    ],
)
def test_if_none_match(value: bytes, status: int) -> None:
    found, fields, body = chosen(FILE, if_none_match=value)
    assert (found, body) == (status, b"" if status == 304 else DIGITS)
    assert fields["ETag"] == '"d"'
    assert ("Content-Length" in fields) is (status == 200)


@pytest.mark.parametrize(
    ("value", "first", "length"),
    [
        (b"bytes=0-0", 0, 1),
        (b"bytes=90-", 90, 10),
        (b"bytes=-5", 95, 5),
        (b"bytes=-500", 0, 100),
        (b"bytes=10-1000", 10, 90),
        (b"Bytes = 3-4", 3, 2),
    ],
)
def test_ranges(value: bytes, first: int, length: int) -> None:
    status, fields, body = chosen(FILE, range=value)
    assert (status, body) == (206, DIGITS[first : first + length])
    assert fields["Content-Range"] == f"bytes {first}-{first + length - 1}/100"
    assert fields["Content-Length"] == str(length)


@pytest.mark.parametrize("value", [b"bytes=100-", b"bytes=500-600", b"bytes=-0"])
def test_ranges_that_cannot_be_met(value: bytes) -> None:
    status, fields, body = chosen(FILE, range=value)
    assert (status, fields["Content-Range"], fields["Content-Length"], body) == (416, "bytes */100", "0", b"")


@pytest.mark.parametrize(
    "value",
    [b"", b"bytes", b"bytes=", b"bytes=-", b"bytes=a-b", b"bytes=5-2", b"bytes=0-1,5-6", b"items=0-1"],
)
def test_ranges_that_are_ignored(value: bytes) -> None:
    assert chosen(FILE, range=value)[0] == 200


def test_huge_numbers_in_ranges_are_ignored() -> None:
    assert parse_range_untrusted(b"bytes=0-" + b"9" * 5000, 100) is None


def test_if_range() -> None:
    assert chosen(FILE, range=b"bytes=0-1", if_range=b'"d"')[0] == 206
    assert chosen(FILE, range=b"bytes=0-1", if_range=b'"other"')[0] == 200
    assert chosen(FILE, range=b"bytes=0-1", if_range=b'W/"d"')[0] == 200


def test_ranges_over_several_buffers_and_files_copy_nothing() -> None:
    parts = Response(200, (DIGITS[:30], DIGITS[30:31], b"", DIGITS[31:]), etag="d")
    for first, length in ((0, 100), (29, 3), (30, 1), (31, 69), (99, 1)):
        value = f"bytes={first}-{first + length - 1}".encode()
        assert chosen(parts, range=value)[2] == DIGITS[first : first + length]
    assert all(isinstance(part, memoryview) for part in _parts(slice_body(DIGITS, 3, 4)))
    file = FileSlice(7, 1000, 100, None)
    assert chosen(Response(200, file), range=b"bytes=5-9")[2] == FileSlice(7, 1005, 5, None)


def test_head_has_the_fields_of_get() -> None:
    assert chosen(FILE, "HEAD")[1] == chosen(FILE)[1]
    assert chosen(FILE, "HEAD")[2] == b""
    assert chosen(FILE, "HEAD", range=b"bytes=0-1")[0] == 200


def test_gzip_for_those_who_take_it() -> None:
    text = Response(200, b"#EXTM3U\n" * 200, content_type="text/plain", etag="t", compress=True)
    _, fields, body = chosen(text, accept_encoding=b"gzip")
    assert gzip.decompress(body) == b"#EXTM3U\n" * 200
    assert (fields["Content-Encoding"], fields["Vary"], fields["ETag"]) == (
        "gzip",
        "Accept-Encoding",
        '"t-gzip"',
    )
    assert fields["Content-Length"] == str(len(body))
    _, fields, body = chosen(text)
    assert (len(body), fields["Vary"], fields["ETag"]) == (1600, "Accept-Encoding", '"t"')
    assert "Content-Encoding" not in fields
    assert chosen(text, range=b"bytes=0-1", accept_encoding=b"gzip")[0] == 200
    assert text.variant(True) is text.variant(True)


def test_gzip_is_left_when_it_gains_nothing() -> None:
    noise = Response(200, gzip.compress(bytes(range(256)) * 8 + DIGITS), compress=True)
    assert "Content-Encoding" not in chosen(noise, accept_encoding=b"gzip")[1]
    short = Response(200, b"a" * 100, compress=True)
    assert "Content-Encoding" not in chosen(short, accept_encoding=b"gzip")[1]


def test_every_answer_may_be_read_by_any_page() -> None:
    for response in (FILE, error(404, "not_found", "no"), plain_error(503, "no"), redirect("/x")):
        fields = chosen(response)[1]
        assert fields["Access-Control-Allow-Origin"] == "*"
        assert fields["Timing-Allow-Origin"] == "*"
        assert "Content-Length" in fields


def test_errors() -> None:
    _, fields, body = chosen(error(404, "not_found", "nothing here"))
    assert (fields["Content-Type"], body) == (
        "application/json",
        b'{"error":"not_found","message":"nothing here"}',
    )
    _, fields, body = chosen(plain_error(503, "later", headers=(("Retry-After", "2"),)))
    assert (fields["Content-Type"], fields["Retry-After"], body) == (
        "text/plain; charset=utf-8",
        "2",
        b"later\n",
    )
    assert fields["Cache-Control"] == "no-store"


def test_no_content_has_no_length() -> None:
    assert "Content-Length" not in chosen(Response(204))[1]


@pytest.mark.parametrize("location", ["/a\r\nSet-Cookie: x", "/a\nb", "/é"])
def test_fields_cannot_be_broken_apart(location: str) -> None:
    with pytest.raises(StateError):
        redirect(location)


def test_one_buffer_is_kept_while_the_date_is_the_same() -> None:
    tail = b"Date: x\r\n\r\n"
    assert FILE.plain.wire(tail) is FILE.plain.wire(tail)
    assert FILE.plain.wire(tail).endswith(tail + DIGITS)


def test_date_changes_when_the_second_does() -> None:
    unix = [1_800_000_000.9]
    date = DateLine(lambda: unix[0])
    first = date.plain(10.0)
    assert first == b"Date: Fri, 15 Jan 2027 08:00:00 GMT\r\n\r\n"
    assert date.plain(10.09) is first
    unix[0] += 0.1
    assert date.closing(10.1) == b"Date: Fri, 15 Jan 2027 08:00:01 GMT\r\nConnection: close\r\n\r\n"
    assert date.kept(10.2) == b"Date: Fri, 15 Jan 2027 08:00:01 GMT\r\nConnection: keep-alive\r\n\r\n"
