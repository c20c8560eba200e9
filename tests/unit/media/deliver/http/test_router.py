"""Paths and methods to routes."""

from typing import Any

import pytest

from media.deliver.http.response import Response


def test_exact_paths_before_what_is_below(client: Any, server: Any) -> None:
    server.route("GET", "/live/*", lambda request, reply: reply.send(Response(200, b"below")))
    server.route("GET", "/live/status", lambda request, reply: reply.send(Response(200, b"exact")))
    assert client.get("/live/status").body == b"exact"
    assert client.get("/live/show/v1/0.m4s").body == b"below"
    assert client.get("/live/").body == b"below"
    assert client.get("/live").status == 404
    assert client.get("/liver/x").status == 404


def test_wrong_method_says_which_are_right(client: Any) -> None:
    client.send("DELETE /echo HTTP/1.1\r\nHost: h\r\n\r\n")
    (answer,) = client.answers()
    assert (answer.status, answer.fields["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert int(answer.fields["Content-Length"]) == len(answer.body) > 0
    client.send("DELETE /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.answers()[0].status == 404


@pytest.mark.parametrize(("target", "methods"), [("/echo", "GET, HEAD, OPTIONS, POST"), ("*", "OPTIONS")])
def test_preflight(client: Any, target: str, methods: str) -> None:
    client.send(
        f"OPTIONS {target} HTTP/1.1\r\nHost: h\r\nOrigin: https://x\r\n"
        "Access-Control-Request-Method: GET\r\n\r\n"
    )
    (answer,) = client.answers()
    assert answer.status == 204
    assert answer.fields["Access-Control-Allow-Methods"] == methods
    assert "Authorization" in answer.fields["Access-Control-Allow-Headers"]
    assert answer.fields["Access-Control-Max-Age"] == "86400"


def test_a_route_may_answer_options_itself(client: Any, server: Any) -> None:
    server.route("OPTIONS POST", "/whip/*", lambda request, reply: reply.send(Response(200, b"mine")))
    client.send("OPTIONS /whip/show HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.answers()[0].body == b"mine"
    client.send("HEAD /whip/show HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.answers("HEAD")[0].status == 405


def test_unknown_paths_add_no_routes(client: Any, server: Any) -> None:
    before = len(server.router.routes)
    for number in range(200):
        client.get(f"/nothing/{number}")
        client.send(f"PUT /hello?{number} HTTP/1.1\r\nHost: h\r\n\r\n")
    assert len(server.router.routes) == before
