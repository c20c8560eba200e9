"""Requests in order, their limits and deadlines, and viewers that go away."""

import tracemalloc
from typing import Any

import pytest

from media.deliver.http.connection import BODY_S, HEAD_S, IDLE_S, REQUESTS_PER_TURN
from media.deliver.http.response import Response
from media.errors import Refused, Unavailable, WireError
from media.net.transport import FileSlice

GET = b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"


def test_same_object_twice_on_a_kept_connection(client: Any) -> None:
    first, second = client.get("/hello"), client.get("/hello")
    assert first == second
    assert (first.status, first.body) == (200, b"hello")
    assert first.fields["Date"] == "Fri, 15 Jan 2027 08:00:00 GMT"
    assert "Connection" not in first.fields
    assert not client.transport.closing


def test_date_moves_on_with_the_clock(client: Any) -> None:
    client.get("/hello")
    client.advance(0.8)
    assert client.get("/hello").fields["Date"] == "Fri, 15 Jan 2027 08:00:01 GMT"


def test_not_found_has_a_length_and_keeps_the_connection(client: Any) -> None:
    answer = client.get("/nothing/here")
    assert answer.status == 404
    assert int(answer.fields["Content-Length"]) == len(answer.body) > 0
    assert answer.fields["Access-Control-Allow-Origin"] == "*"
    assert client.get("/hello").status == 200


def test_close_and_old_versions(server: Any) -> None:
    client = server.client()
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert client.answers()[0].fields["Connection"] == "close"
    assert client.transport.closing
    old = server.client()
    old.send("GET /hello HTTP/1.0\r\n\r\n")
    assert old.answers()[0].fields["Connection"] == "close"
    assert old.transport.closing
    kept = server.client()
    kept.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert kept.answers()[0].fields["Connection"] == "keep-alive"
    assert not kept.transport.closing


def test_head_has_the_length_but_no_body(client: Any) -> None:
    client.send("HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n" + GET.decode())
    head, get = client.answers("HEAD GET")
    assert head.fields == get.fields
    assert (head.body, get.body) == (b"", b"hello")


def test_body_with_length_and_in_chunks(client: Any) -> None:
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde")
    client.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        + GET.decode()
    )
    assert [answer.body for answer in client.answers()] == [b"abcde", b"abcde", b"hello"]


def test_expected_continue_is_sent_once(client: Any) -> None:
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send("ok")
    assert client.answers()[0].body == b"ok"


def test_body_limit_is_told_before_the_body_comes(client: Any) -> None:
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\nExpect: 100-continue\r\n\r\n")
    (answer,) = client.answers()
    assert (answer.status, answer.fields["Connection"]) == (413, "close")
    assert client.transport.closing


def test_handlers_may_take_more_or_less(server: Any) -> None:
    server.route("POST", "/small", lambda request, reply: reply.send(Response(204)), body_max_bytes=4)
    client = server.client()
    client.send("POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nabcd")
    assert client.answers()[0].status == 204
    client.send("POST /small HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
    assert client.answers()[0].status == 413


def test_ten_thousand_pipelined_requests_take_no_memory(client: Any, server: Any) -> None:
    total = 10_000
    hello = Response(200, b"hello")
    server.router.add("GET", "/count", lambda request, reply: reply.send(hello), name="count")
    data = GET.replace(b"hello", b"count") * total
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    peak = answered = 0
    for start in range(0, len(data), 65536):
        client.send(data[start : start + 65536])
        answered += client.take().count(b"HTTP/1.1 200 OK\r\n")
        while client.step():
            answered += client.take().count(b"HTTP/1.1 200 OK\r\n")
            peak = max(peak, tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    assert answered == total
    assert peak < 250_000  # the bytes of one read, and what is made of a few of them


def test_one_turn_serves_a_bounded_number(client: Any) -> None:
    client.send(GET * 100)
    assert len(client.answers()) == REQUESTS_PER_TURN
    assert client.step()
    assert len(client.answers()) == REQUESTS_PER_TURN
    client.advance(0.0)
    assert len(client.answers()) == 100 - 2 * REQUESTS_PER_TURN


def test_pipelined_requests_wait_for_a_held_answer(client: Any, server: Any) -> None:
    client.send(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n" + GET * 2)
    client.send(GET)
    assert client.take() == b""
    server.held[0].send(Response(200, b"late"))
    client.advance(0.0)
    assert [answer.body for answer in client.answers()] == [b"late", b"hello", b"hello", b"hello"]


def test_a_flood_behind_a_held_answer_stops_reading(client: Any, server: Any) -> None:
    client.send(b"GET /later HTTP/1.1\r\nHost: h\r\n\r\n")
    for _ in range(3):
        client.send(GET * 1000)
    assert client.transport.reading_paused
    server.held[0].send(Response(200, b"late"))
    client.advance(0.0)
    assert not client.transport.reading_paused
    assert len(client.answers()) == 3001


def test_reader_that_reads_nothing_is_sent_no_more(client: Any) -> None:
    client.transport.blocked = True
    for _ in range(50):
        client.send(GET.replace(b"hello", b"big"))
    assert client.transport.queued_bytes < 2 * 800_000
    assert len(client.server.requests) == 1
    client.unblock()
    client.advance(0.0)
    assert len(client.server.requests) == 50


def test_pipelined_small_answers_stop_at_the_queue_limit(client: Any, server: Any) -> None:
    server.route("GET", "/page", lambda request, reply: reply.send(Response(200, b"p" * 60_000)))
    client.transport.blocked = True
    for _ in range(100):
        client.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.transport.queued_bytes < 400_000
    client.unblock()
    while len(server.requests) < 100:
        client.advance(0.0)
    assert len(client.answers()) == 100


def test_one_byte_a_second_is_cut_off(client: Any) -> None:
    data = b"GET /hello HTTP/1.1\r\nHost: h\r\nX-Slow: " + b"a" * 100
    sent = 0
    while not client.transport.closing:
        client.send(data[sent : sent + 1])
        sent += 1
        client.advance(1.0)
    assert sent == HEAD_S
    assert client.answers()[0].status == 408


def test_slow_body_has_its_own_deadline(client: Any) -> None:
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\na")
    client.advance(BODY_S - 0.1)
    assert not client.transport.closing
    client.advance(0.1)
    assert client.answers()[0].status == 408
    assert client.transport.closing


def test_idle_connection_is_closed_without_a_word(client: Any) -> None:
    client.advance(IDLE_S - 1)
    client.get("/hello")
    client.advance(IDLE_S - 0.1)
    assert not client.transport.closing
    client.advance(0.2)
    assert client.transport.closing
    assert client.take() == b""


def test_a_held_request_and_a_slow_download_are_not_idle(client: Any, server: Any) -> None:
    client.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n")
    client.advance(5 * IDLE_S)
    client.transport.blocked = True
    server.held[0].send(server.big)
    client.advance(5 * IDLE_S)
    assert not client.transport.closing
    client.unblock()
    client.advance(IDLE_S - 0.1)
    assert not client.transport.closing
    client.advance(IDLE_S + 0.1)
    assert client.transport.closing


def test_viewer_that_goes_while_an_answer_is_pending(client: Any, server: Any) -> None:
    gone = []
    client.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n")
    server.held[0].on_close = gone.append
    client.connection.receive_eof(101.0)
    assert client.transport.aborted
    client.connection.closed(102.0)
    assert gone == [102.0]
    server.held[0].send(Response(200, b"late"))
    assert client.take() == b""
    assert not server.site.connections


def test_end_of_input_after_requests_still_answers_them(client: Any) -> None:
    client.send(GET * (REQUESTS_PER_TURN + 1))
    client.connection.receive_eof(100.0)
    assert not client.transport.closing
    client.advance(0.0)
    assert len(client.answers()) == REQUESTS_PER_TURN + 1
    assert client.transport.closing


def test_end_of_input_when_idle_closes(client: Any) -> None:
    client.get("/hello")
    client.connection.receive_eof(100.0)
    assert client.transport.closing


def test_second_answer_does_nothing(client: Any, server: Any) -> None:
    client.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n")
    server.held[0].send(Response(200, b"one"))
    server.held[0].send(Response(200, b"two"))
    assert [answer.body for answer in client.answers()] == [b"one"]


def test_bug_in_a_handler_is_answered_and_told_to_the_reactor(client: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        client.send("GET /bug HTTP/1.1\r\nHost: h\r\n\r\n")
    (answer,) = client.answers()
    assert (answer.status, answer.fields["Connection"]) == (500, "close")


@pytest.mark.parametrize(
    ("error", "status", "field"),
    [
        (Refused("not yours"), 403, None),
        (WireError("not an offer"), 400, None),
        (Unavailable("full", 2.6), 503, ("Retry-After", "3")),
    ],
)
def test_errors_that_handlers_may_raise(
    client: Any, server: Any, error: Exception, status: int, field: tuple[str, str] | None
) -> None:
    def refuse(request: Any, reply: Any) -> None:
        raise error

    server.route("GET", "/refuse", refuse)
    answer = client.get("/refuse")
    assert (answer.status, answer.body) == (status, f"{error}\n".encode())
    assert field is None or answer.fields[field[0]] == field[1]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /a%2fb HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /%2e%2e/etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"GET /%0d%0aX:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /hello HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"GET /hello HTTP/1.1\r\nHost: h\r\nA: " + b"a" * 17000 + b"\r\n\r\n", 431),
        (b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999999999999\r\n\r\n", 413),
    ],
)
def test_bad_requests_get_a_reason_and_are_closed(client: Any, data: bytes, status: int) -> None:
    client.send(data)
    (answer,) = client.answers()
    assert (answer.status, answer.fields["Connection"]) == (status, "close")
    assert int(answer.fields["Content-Length"]) == len(answer.body) > 1
    assert client.transport.closing
    client.send(GET)
    assert client.take() == b""
    assert client.server.site.refused == {status: 1}


def test_a_megabyte_of_headers_is_refused_early(client: Any) -> None:
    sent = 0
    client.send("GET /hello HTTP/1.1\r\nHost: h\r\n")
    while not client.transport.closing:
        client.send(b"X-Field: " + b"a" * 980 + b"\r\n")
        sent += 1000
    assert sent < 20_000
    assert client.answers()[0].status == 431


def test_request_fields_are_never_echoed(client: Any) -> None:
    secret = "s3cret-" * 4
    client.get("/hello", f"X-Token: {secret}", f"Origin: https://{secret}", f"Cookie: {secret}")
    client.send(f"GET /hello HTTP/1.1\r\nHost: {secret}\r\nAuthorization: {secret}\r\nA: \x00\r\n\r\n")
    assert secret.encode() not in client.take()


def test_upgrade_to_what_is_not_spoken_here_is_ignored(client: Any) -> None:
    client.send(
        "GET /hello HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        "HTTP2-Settings: AAMAAABk\r\n\r\n" + GET.decode()
    )
    assert [answer.body for answer in client.answers()] == [b"hello", b"hello"]


def test_large_bodies_are_not_joined_to_their_head(client: Any, server: Any) -> None:
    part = FileSlice(5, 0, 750_000, None)
    file = Response(200, part, content_type="video/mp4", etag="f")
    server.route("GET", "/file", lambda request, reply: reply.send(file))
    client.send("GET /file HTTP/1.1\r\nHost: h\r\n\r\n")
    assert b"Content-Length: 750000\r\n" in client.take()
    client.send("GET /file HTTP/1.1\r\nHost: h\r\nRange: bytes=10-19\r\n\r\n")
    assert b"206 Partial Content" in client.take()
    assert client.transport.files == [part, FileSlice(5, 10, 10, None)]
    assert client.get("/big").body == b"x" * 750_000


def test_stream_sends_the_same_bytes_and_closes_at_its_end(client: Any, server: Any) -> None:
    gone = []

    def play(request: Any, reply: Any) -> None:
        sink = reply.stream("video/mp4", (("X-Stream", "1"),))
        sink.on_close = gone.append
        sinks.append(sink)

    sinks: list[Any] = []
    server.route("GET", "/live.mp4", play)
    client.send("GET /live.mp4 HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
    head = client.take()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n\r\n" in head
    assert b"\r\nContent-Length:" not in head
    sinks[0].send(b"one", b"two")
    client.advance(10 * IDLE_S)
    assert client.take() == b"onetwo"
    assert not client.transport.closing
    client.transport.blocked = True
    sinks[0].send(b"three")
    assert sinks[0].queued_bytes == 5
    sinks[0].close()
    assert client.transport.closing
    client.connection.closed(1.0)
    assert gone == [1.0]


def test_stream_to_head_and_to_a_viewer_that_leaves(server: Any) -> None:
    server.route("GET", "/live.mp4", lambda request, reply: reply.stream("video/mp4"))
    head = server.client()
    head.send("HEAD /live.mp4 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert head.transport.closing
    leaver = server.client()
    leaver.send("GET /live.mp4 HTTP/1.1\r\nHost: h\r\n\r\n")
    leaver.connection.receive_eof(101.0)
    assert leaver.transport.aborted


def test_chatter_on_a_stream_is_bounded(client: Any, server: Any) -> None:
    server.route("GET", "/live.mp4", lambda request, reply: reply.stream("video/mp4"))
    client.send("GET /live.mp4 HTTP/1.1\r\nHost: h\r\n\r\n")
    for _ in range(100):
        client.send(b"x" * 1000)
    assert client.transport.aborted


def test_draining_closes_with_the_next_answer(client: Any, server: Any) -> None:
    idle = server.client()
    held = server.client()
    held.send("GET /later HTTP/1.1\r\nHost: h\r\n\r\n")
    server.site.draining = True
    for connection in list(server.site.connections):
        connection.drain()
    assert idle.transport.closing
    assert not held.transport.closing
    server.held[0].send(Response(200, b"late"))
    assert held.answers()[0].fields["Connection"] == "close"
    assert held.transport.closing


def test_counts_by_route(client: Any, server: Any) -> None:
    client.get("/hello")
    client.get("/hello", 'If-None-Match: "e"')
    client.get("/nothing")
    by_name = {route.name: route for route in server.router.routes}
    assert by_name["/hello"].requests == 2
    assert by_name["/hello"].bytes_out == 5
    assert by_name["not-found"].answers[4] == 1


def test_heads_are_shared_and_their_number_is_bounded(server: Any) -> None:
    one, two = server.client(), server.client()
    for number in range(3000):
        one.send(f"GET /hello?n={number} HTTP/1.1\r\nHost: h\r\n\r\n")
    assert len(server.site._heads) <= 1024
    two.send("GET /hello?n=2999 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert server.requests[-1].head is server.requests[-2].head
    for number in range(3000):
        one.send(f"GET /hello HTTP/1.1\r\nHost: h{number}\r\n\r\n")
    assert len(server.site._field_sets) <= 256


def test_a_known_field_block_does_not_hide_a_bad_target(client: Any) -> None:
    client.get("/hello")
    client.send("GET /a%2fb HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.answers()[0].status == 400
