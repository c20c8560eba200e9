"""The answer's bytes."""

import pytest
from livepeer_gateway.framing import Part, error_headers, multipart, multipart_type

BOUNDARY = "94eaf473f7957940e066"
GOLDEN = (
    b"--94eaf473f7957940e066\r\n"
    b'Content-Disposition: attachment; filename="P240_7.ts"\r\n'
    b"Content-Length: 4\r\n"
    b'Content-Type: video/mp2t; name="P240_7.ts"\r\n'
    b"Rendition-Name: P240\r\n"
    b"\r\n"
    b"\x47abc\r\n"
    b"--94eaf473f7957940e066\r\n"
    b'Content-Disposition: attachment; filename="P360_7.ts"\r\n'
    b"Content-Length: 2\r\n"
    b'Content-Type: video/mp2t; name="P360_7.ts"\r\n'
    b"Rendition-Name: P360\r\n"
    b"\r\n"
    b"xy\r\n"
    b"--94eaf473f7957940e066--\r\n"
)
GOLDEN_URI = (
    b"--94eaf473f7957940e066\r\n"
    b'Content-Disposition: attachment; filename="P240_7.txt"\r\n'
    b"Content-Length: 16\r\n"
    b'Content-Type: application/vnd+livepeer.uri; name="P240_7.txt"\r\n'
    b"Rendition-Name: P240\r\n"
    b"\r\n"
    b"s3://b/m/P240/7t\r\n"
    b"--94eaf473f7957940e066--\r\n"
)


@pytest.mark.livepeer("5.2")
def test_golden_bytes() -> None:
    parts = [Part("P240", 7, ".ts", b"\x47abc"), Part("P360", 7, ".ts", b"xy")]
    assert b"".join(multipart(parts, BOUNDARY)) == GOLDEN
    assert multipart_type(BOUNDARY) == "multipart/mixed; boundary=94eaf473f7957940e066"


@pytest.mark.livepeer("5.4")
def test_golden_bytes_of_a_uri() -> None:
    part = Part("P240", 7, ".ts", b"\x47abc", uri="s3://b/m/P240/7t")
    assert b"".join(multipart([part], BOUNDARY)) == GOLDEN_URI


@pytest.mark.livepeer("5.3")
def test_mp4() -> None:
    text = b"".join(multipart([Part("a", 0, ".mp4", b"")], BOUNDARY))
    assert b'Content-Type: video/mp4; name="a_0.mp4"\r\n' in text


@pytest.mark.livepeer("2.2")
def test_errors_are_those_of_go() -> None:
    assert error_headers(b"no\n", "D") == [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Date", "D"),
        ("Content-Length", "3"),
    ]
