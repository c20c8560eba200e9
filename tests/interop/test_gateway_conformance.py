"""What a Livepeer gateway does with a push: asked of the double, and of a live one where that can be.

With FWNODE_GATEWAY_URL the tests that take `url` ask the gateway there; the others are skipped by
name, since they need faults, a clock or settings that only the double has. A live one needs room for
some forty sessions (`-maxSessions 100`), the default ladder and no webhook.
"""

import http.client
import http.server
import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from livepeer_gateway.pushing import PARTS, Answer, ask, configuration, profile, push
from livepeer_gateway.running import RunningGateway
from livepeer_gateway.segments import (
    Shape,
    media_of,
    segment,
    without_keyframes,
    without_pictures,
)

LIVE_URL = os.environ.get("FWNODE_GATEWAY_URL", "")
SHAPE = Shape()
SEGMENT = segment(SHAPE)
ONE = configuration(profile("one", 146, 82))
TWO = configuration(profile("one", 146, 82), profile("two", 160, 90, profile="H264ConstrainedHigh"))
TS_PACKET_BYTES, TS_SYNC = 188, 0x47
StartGateway = Callable[..., RunningGateway]
_run = f"{os.getpid():x}{time.time_ns():x}"[-10:]
_numbers = itertools.count()


def fresh() -> str:
    """A manifest ID that no test has used."""
    return f"fw-{_run}-{next(_numbers)}"


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningGateway | None]:
    """The double for most tests; None where a live gateway is asked."""
    if LIVE_URL:
        yield None
        return
    with RunningGateway("--preset", "ultrafast", "--max-sessions", "1000") as running:
        yield running


@pytest.fixture
def url(shared: RunningGateway | None) -> str:
    """A gateway of any kind."""
    return LIVE_URL.rstrip("/") if shared is None else shared.url


@pytest.fixture
def double(shared: RunningGateway | None) -> Iterator[RunningGateway]:
    """The double, without faults before and after."""
    if shared is None:
        pytest.skip("needs a gateway that fails when told to")
    yield shared
    shared.no_faults()
    shared.control("orchestrators", 3)
    shared.control("script", [])


@pytest.fixture
def start_double() -> Iterator[StartGateway]:
    """Doubles with options of their own."""
    if LIVE_URL:
        pytest.skip("needs a gateway with settings of its own")
    running: list[RunningGateway] = []

    def start(*options: str) -> RunningGateway:
        running.append(RunningGateway("--preset", "ultrafast", *options))
        return running[-1]

    yield start
    for gateway in running:
        gateway.close()


def names(answer: Answer) -> list[str]:
    return [rendition.name for rendition in answer.renditions]


@pytest.mark.livepeer("5.2", "7.1", "7.2", "7.3")
def test_renditions(url: str) -> None:
    answer = push(url, f"/live/{fresh()}/7.ts", SEGMENT, TWO)
    assert answer.status == 200
    first, second = answer.renditions
    assert (first.name, first.filename, first.content_type) == ("one", "one_7.ts", "video/mp2t")
    assert second.filename == "two_7.ts"
    source = media_of(SEGMENT)
    for rendition, width in ((first, 146), (second, 160)):
        made = media_of(rendition.data)
        assert (made.width, made.codec, made.first_is_key) == (width, "h264", True)
        assert (made.video_pts, made.audio_pts) == (source.video_pts, source.audio_pts)
        assert made.kinds == ("video", "audio")


@pytest.mark.livepeer("1.1")
def test_one_connection_serves_many(url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    name = fresh()
    try:
        for number in range(3):
            answer = ask(connection, f"/live/{name}/{number}.ts", SEGMENT, ONE)
            assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
        assert ask(connection, "/live/a/1.m3u8", b"").status == 400
        assert ask(connection, f"/live/{name}/4.ts", SEGMENT, ONE).status == 200
    finally:
        connection.close()


@pytest.mark.livepeer("1.2")
def test_expect_and_chunks(url: str) -> None:
    chunked = iter([SEGMENT[:5000], SEGMENT[5000:]])
    assert push(url, f"/live/{fresh()}/0.ts", chunked, ONE).status == 200
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 80), 30) as raw:
        head = f"PUT /live/{fresh()}/0.ts HTTP/1.1\r\nHost: {place.netloc}\r\nExpect: 100-continue\r\n"
        raw.sendall(f"{head}Accept: multipart/mixed\r\nContent-Length: {len(SEGMENT)}\r\n\r\n".encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 100")
        raw.sendall(SEGMENT)
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.livepeer("1.1", "5.2")
def test_bytes_on_the_wire(url: str) -> None:
    place = urlsplit(url)
    head = f"POST /live/{fresh()}/0.ts HTTP/1.1\r\nHost: {place.netloc}\r\nAccept: multipart/mixed\r\n"
    asked = f"{head}Connection: close\r\nContent-Length: {len(SEGMENT)}\r\n\r\n".encode()
    seen = b""
    with socket.create_connection((place.hostname or "", place.port or 80), 30) as raw:
        raw.sendall(asked + SEGMENT)
        while received := raw.recv(65536):
            seen += received
    begin = (
        rb"HTTP/1\.1 200 OK\r\nContent-Type: multipart/mixed; boundary=([0-9a-f]{20})\r\nDate: [^\r]+ GMT\r\n"
        rb"(?:Connection: close\r\n)?Transfer-Encoding: chunked\r\n(?:Connection: close\r\n)?\r\n"
        rb"[0-9a-f]+\r\n--\1\r\nContent-Disposition: attachment"
    )
    assert re.match(begin, seen), seen[:400]
    assert re.search(rb"\r\n--[0-9a-f]{20}--\r\n\r\n0\r\n\r\n$", seen), seen[-100:]


@pytest.mark.livepeer("2.1", "2.2")
@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "text"),
    [
        ("GET", "/live/m/0.ts", {}, 405, "http push request wrong method=GET"),
        ("DELETE", "/live/m/0.m3u8", {"Livepeer-Transcode-Configuration": "["}, 405, "http push request"),
        ("POST", "/live/m/0.m3u8", {"Livepeer-Transcode-Configuration": "["}, 400, "failed to parse"),
        ("PUT", "/live/m/0.m3u8", {}, 400, "ignoring file extension: .m3u8"),
        ("POST", "/live/.ts", {}, 400, "Bad URL url="),
        ("POST", "/live/bad-{}/0.ts", {"Content-Duration": "-1"}, 500, "http push error processing"),
        ("POST", "/live/bad-{}/0.ts", {"Content-Duration": "300001"}, 500, "http push error processing"),
        ("POST", "/other", {}, 404, "404 page not found"),
    ],
)
def test_errors(url: str, method: str, path: str, headers: dict[str, str], status: int, text: str) -> None:
    answer = push(url, path.format(fresh()), SEGMENT, headers, method)
    assert (answer.status, answer.text[: len(text)]) == (status, text)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.body.endswith(b"\n")


@pytest.mark.livepeer("3.3")
def test_double_slashes_are_redirected(url: str) -> None:
    answer = push(url, "/live//3.ts", SEGMENT, ONE)
    assert 300 < answer.status < 309
    assert answer.headers["location"] == "/live/3.ts"


@pytest.mark.livepeer("3.1", "13.1")
def test_names_in_urls(double: RunningGateway) -> None:
    for path in ("/live/mylive/0.ts", "/live/olive/x/4.ts?token=1", "/live/a/b/3.ts"):
        assert push(double.url, path, SEGMENT, ONE).status == 200
    assert [entry["manifest_id"] for entry in double.log()[-3:]] == ["my0", "ox", "a"]


@pytest.mark.livepeer("3.2")
def test_no_number_is_segment_0(url: str) -> None:
    answer = push(url, f"/live/{fresh()}/abc.ts", SEGMENT, ONE)
    assert answer.renditions[0].filename == "one_0.ts"


@pytest.mark.livepeer("4.1")
@pytest.mark.parametrize(
    "text", ['{"profiles":[{"fps":29.97}]}', '{"profiles":[{"gop":2}]}', "[]", '{"profiles":[]} x']
)
def test_configurations_that_cannot_be_read(url: str, text: str) -> None:
    header = {"Livepeer-Transcode-Configuration": text}
    assert push(url, f"/live/{fresh()}/0.ts", SEGMENT, header).status == 400


@pytest.mark.livepeer("4.2")
def test_ladders(url: str) -> None:
    assert len(names(push(url, f"/live/{fresh()}/0.ts", SEGMENT))) >= 1
    nothing = push(url, f"/live/{fresh()}/0.ts", SEGMENT, configuration())
    assert (nothing.status, nothing.body) == (200, b"")
    preset = {"Livepeer-Transcode-Configuration": '{"presets":["P144p30fps16x9"]}'}
    assert names(push(url, f"/live/{fresh()}/0.ts", SEGMENT, preset)) == ["P144p30fps16x9"]


@pytest.mark.livepeer("4.3")
@pytest.mark.parametrize("wrong", [{"profile": "h265"}, {"gop": "-1"}, {"encoder": "h264"}])
def test_profiles_that_cannot_be(url: str, wrong: dict[str, str]) -> None:
    header = configuration(profile("one", **wrong))
    answer = push(url, f"/live/{fresh()}/0.ts", SEGMENT, header)
    assert (answer.status, answer.text[:31]) == (500, "Could not create stream ID: url")


@pytest.mark.livepeer("5.1")
@pytest.mark.parametrize("accept", ["*/*", "multipart/mixed, */*"])
def test_other_answers_are_not_asked_for(url: str, accept: str) -> None:
    answer = push(url, f"/live/{fresh()}/0.ts", SEGMENT, ONE | {"Accept": accept})
    assert (answer.status, answer.body) == (200, b"")
    assert "content-type" not in answer.headers


@pytest.mark.livepeer("5.3")
def test_mp4(url: str) -> None:
    data = segment(replace(SHAPE, extension=".mp4"))
    (made,) = push(url, f"/live/{fresh()}/3.mp4", data, ONE).renditions
    assert (made.filename, made.content_type) == ("one_3.mp4", "video/mp4")
    assert len(media_of(made.data).video_pts) == 25


@pytest.mark.livepeer("6.4")
def test_profiles_are_of_the_first_segment(url: str) -> None:
    name = fresh()
    assert names(push(url, f"/live/{name}/0.ts", SEGMENT, ONE)) == ["one"]
    assert names(push(url, f"/live/{name}/1.ts", SEGMENT, TWO)) == ["one"]


@pytest.mark.livepeer("6.6")
def test_first_segments_at_the_same_time(url: str) -> None:
    name = fresh()
    with ThreadPoolExecutor(3) as pool:
        sent = [pool.submit(push, url, f"/live/{name}/{n}.ts", SEGMENT, ONE) for n in range(3)]
        assert [names(one.result()) for one in sent] == [["one"]] * 3


@pytest.mark.livepeer("6.5", "13.1")
def test_another_resolution_begins_the_transcoder_anew(double: RunningGateway) -> None:
    name = fresh()
    wide = segment(Shape(width=320, height=180))
    for number, data in enumerate((SEGMENT, SEGMENT, wide, wide)):
        assert push(double.url, f"/live/{name}/{number}.ts", data, ONE).status == 200
    assert [entry["reinit"] for entry in double.log()[-4:]] == [False, False, True, False]


@pytest.mark.livepeer("7.4")
def test_sound_without_pictures_comes_back(url: str) -> None:
    name, data = fresh(), without_pictures(SEGMENT)
    assert push(url, f"/live/{name}/0.ts", SEGMENT, ONE).status == 200
    (made,) = push(url, f"/live/{name}/1.ts", data, ONE).renditions
    assert made.data == data


@pytest.mark.livepeer("7.5", "7.6")
@pytest.mark.parametrize("what", ["no video", "garbage", "no keyframe", "mpeg2", "eleven outputs"])
def test_what_cannot_be_transcoded(url: str, what: str) -> None:
    data = {
        "no video": lambda: segment(replace(SHAPE, video=False)),
        "garbage": lambda: b"garbage" * 1000,
        "no keyframe": lambda: without_keyframes(segment(replace(SHAPE, audio=False))),
        "mpeg2": lambda: segment(replace(SHAPE, codec="mpeg2video")),
        "eleven outputs": lambda: SEGMENT,
    }[what]()
    many = 11 if what == "eleven outputs" else 1
    header = configuration(*(profile(f"p{n}") for n in range(many)))
    assert push(url, f"/live/{fresh()}/0.ts", data, header).status == 422


@pytest.mark.livepeer("7.7")
def test_a_slice(url: str) -> None:
    header = ONE | {"Content-Slice-From": "200", "Content-Slice-To": "600"}
    (made,) = push(url, f"/live/{fresh()}/0.ts", SEGMENT, header).renditions
    assert abs(len(media_of(made.data).video_pts) - 10) <= 1
    wrong = ONE | {"Content-Slice-From": "600", "Content-Slice-To": "200"}
    assert push(url, f"/live/{fresh()}/0.ts", SEGMENT, wrong).status == 400


@pytest.mark.livepeer("9.1")
def test_hls(double: RunningGateway) -> None:
    name = fresh()
    for number in range(13):
        push(double.url, f"/live/{name}/{number}.ts", SEGMENT, ONE)
    master = push(double.url, f"/stream/{name}.m3u8", b"", method="GET")
    assert f"{name}/source.m3u8" in master.text
    assert f"{name}/one.m3u8" in master.text
    listed = push(double.url, f"/stream/{name}/one.m3u8", b"", method="GET")
    assert re.findall(r"one/(\d+)\.ts", listed.text) == ["7", "8", "9", "10", "11", "12"]
    assert listed.headers["access-control-allow-origin"] == "*"
    assert media_of(push(double.url, f"/stream/{name}/one/12.ts", b"", method="GET").body).width == 146
    assert push(double.url, f"/stream/{name}/one/0.ts", b"", method="GET").status == 404
    assert push(double.url, f"/stream/{name}/source/1.ts", b"", method="GET").body == SEGMENT


@pytest.mark.livepeer("10.1", "10.2")
def test_orchestrators(double: RunningGateway) -> None:
    name = fresh()
    double.control("script", ["busy", "busy", "busy"])
    assert push(double.url, f"/live/{name}/0.ts", SEGMENT, ONE).status == 422
    double.control("script", ["busy", "ok"])
    assert push(double.url, f"/live/{name}/1.ts", SEGMENT, ONE).status == 200
    assert [entry["attempts"] for entry in double.log()[-2:]] == [3, 2]
    double.control("orchestrators", 0)
    answer = push(double.url, f"/live/{name}/2.ts", SEGMENT, ONE)
    assert (answer.status, answer.text) == (503, "No sessions available")


@pytest.mark.livepeer("11.1")
def test_faults_on_the_wire(double: RunningGateway) -> None:
    name, path = fresh(), "/live/{}/0.ts"
    path = path.format(name)
    for kind in ("drop", "reset", "restart"):
        double.fault(kind, times=1)
        with pytest.raises((OSError, http.client.HTTPException)):
            push(double.url, path, SEGMENT, ONE)
        assert push(double.url, path, SEGMENT, ONE).status == 200
    for kind in ("hang", "stall"):
        double.fault(kind, times=1)
        with pytest.raises(TimeoutError):
            push(double.url, path, SEGMENT, ONE, timeout_s=0.3)
    double.fault("slow", times=1, delay_s=0.3)
    began = time.monotonic()
    assert push(double.url, path, SEGMENT, ONE).status == 200
    assert time.monotonic() - began >= 0.3
    double.refuse()
    with pytest.raises(ConnectionRefusedError):
        push(double.url, path, SEGMENT, ONE)
    double.listen()
    assert push(double.url, path, SEGMENT, ONE).status == 200


@pytest.mark.livepeer("11.1", "11.2")
def test_answers_that_are_cut(double: RunningGateway) -> None:
    path = f"/live/{fresh()}/0.ts"
    double.fault("cut", times=1)
    with pytest.raises(http.client.IncompleteRead):
        push(double.url, path, SEGMENT, TWO)
    for kind in ("no-end", "wrong-length", "html", "empty"):
        double.fault(kind, times=1)
        answer = push(double.url, path, SEGMENT, TWO)
        assert answer.status == 200
        with pytest.raises(ValueError, match=r"part|end|multipart"):
            _ = answer.renditions
    double.fault("trickle", times=1, delay_s=0.2)
    assert len(push(double.url, path, SEGMENT, TWO).renditions) == 2


@pytest.mark.livepeer("11.2")
def test_parts_that_are_wrong(double: RunningGateway) -> None:
    path, source = f"/live/{fresh()}/0.ts", media_of(SEGMENT)
    big = configuration(profile("one", 146, 82), profile("two", 320, 180))

    def struck(kind: str) -> Answer:
        double.fault(kind, times=1)
        return push(double.url, path, SEGMENT, big)

    assert names(struck("missing")) == ["one"]
    assert names(struck("doubled")) == ["one", "two", "two"]
    assert names(struck("renamed")) == ["one", "two-other"]
    assert {rendition.data for rendition in struck("source").renditions} == {SEGMENT}
    assert media_of(struck("other-segment").renditions[1].data).video_pts[0] > source.video_pts[-1]
    assert media_of(struck("wrong-size").renditions[1].data).width == 160
    assert sum(len(rendition.data) for rendition in struck("oversized").renditions) > 40_000_000
    heads = struck("garbage").renditions[0].data[::TS_PACKET_BYTES]
    assert heads.count(TS_SYNC) < len(heads) / 2


@pytest.mark.livepeer("11.3")
def test_faults_choose_requests(double: RunningGateway) -> None:
    name = fresh()
    double.control("faults", [{"fault": "overloaded", "first": True}, {"fault": "forbidden", "sequence": 5}])
    assert push(double.url, f"/live/{name}/0.ts", SEGMENT, ONE).status == 503
    double.control("faults", [{"fault": "forbidden", "manifest": name, "sequence": 5, "times": 1}])
    found = [push(double.url, f"/live/{name}/{n}.ts", SEGMENT, ONE).status for n in (4, 5, 5)]
    assert found == [200, 403, 200]
    double.fault("status", status=401, text="who are you?", times=1)
    answer = push(double.url, f"/live/{name}/6.ts", SEGMENT, ONE)
    assert (answer.status, answer.text) == (401, "who are you?")


@pytest.mark.livepeer("1.3", "1.4", "5.4")
def test_settings_of_the_gateway(start_double: StartGateway) -> None:
    off = start_double("--no-http-ingest")
    answer = push(off.url, "/live/m/0.ts", SEGMENT, ONE)
    assert (answer.status, answer.text) == (404, "404 page not found")
    outside = start_double(
        "--outside-store", "s3+https://store/bucket", "--gpu", "--body-bytes-max", "400000"
    )
    (made,) = push(outside.url, "/live/m/7.ts", SEGMENT, ONE).renditions
    assert made.content_type == "application/vnd+livepeer.uri"
    assert made.filename == "one_7.txt"
    assert made.data == b"s3+https://store/bucket/m/one/7.ts"
    wide = segment(replace(SHAPE, pixel_format="yuv422p"))
    assert push(outside.url, "/live/n/0.ts", wide, ONE).status == 422
    answer = push(outside.url, "/live/m/8.ts", bytes(400_001), ONE)
    assert (answer.status, answer.text[:31]) == (500, "Error reading http request body")


@pytest.mark.livepeer("6.2", "6.3")
def test_sessions_are_few_and_end_late(start_double: StartGateway) -> None:
    gateway = start_double("--max-sessions", "1")
    assert push(gateway.url, "/live/a/0.ts", SEGMENT, ONE).status == 200
    answer = push(gateway.url, "/live/b/0.ts", SEGMENT, ONE)
    assert (answer.status, answer.text[:26]) == (500, "Could not create stream ID")
    gateway.control("clock", 58)
    assert "a" in gateway.control("sessions")
    gateway.control("clock", 70)
    assert push(gateway.url, "/live/b/0.ts", SEGMENT, ONE).status == 200


class Webhook(http.server.BaseHTTPRequestHandler):
    """Answers by the manifest ID in the URL that it is asked about."""

    asked: list[dict[str, object]]
    replies: dict[str, tuple[int, bytes]]

    def do_POST(self) -> None:  # the library's name
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(question)
        status, body = self.replies[question["url"].split("/")[4]]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[tuple[str, type[Webhook]]]:
    """A webhook of our own: its URL, and where its replies are put."""
    handler = type("Replies", (Webhook,), {"asked": [], "replies": {}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/auth", handler
    server.shutdown()
    server.server_close()


@pytest.mark.livepeer("8.1", "8.2", "6.1")
def test_webhook(start_double: StartGateway, webhook: tuple[str, type[Webhook]]) -> None:
    address, hook = webhook
    profiles = [profile("one", 146, 82)]
    hook.replies = {
        "denied": (403, b""),
        "empty": (200, b""),
        "bad": (200, b"{}"),
        "named": (200, json.dumps({"manifestID": "real", "profiles": profiles}).encode()),
        "again": (200, json.dumps({"manifestID": "real", "profiles": profiles}).encode()),
    }
    gateway = start_double("--webhook", address)
    found = {n: push(gateway.url, f"/live/{n}/0.ts", SEGMENT).status for n in hook.replies}
    assert found == {"denied": 403, "empty": 200, "bad": 403, "named": 200, "again": 200}
    assert hook.asked[0] == {"url": f"{gateway.url}/live/denied/0.ts"}
    assert gateway.control("sessions")["real"]["url_id"] == "again"
    assert push(gateway.url, "/live/again/1.ts", SEGMENT).status == 200
    assert len(hook.asked) == 5  # once a session
    gateway.restart()
    assert push(gateway.url, "/live/named/2.ts", SEGMENT, TWO).status == 500
    assert push(gateway.url, "/live/named/2.ts", SEGMENT, ONE).status == 200
    assert "named" in gateway.control("sessions")  # the reply's manifestID is lost


@pytest.mark.livepeer("12.1", "12.3", "12.4", "12.5")
def test_frameworks(start_double: StartGateway) -> None:
    gateway = start_double("--dialect", "frameworks", "--job-token", "secret")
    path = "/live/m/1.ts"
    asked = [profile("one", 146, 82)]
    good = configuration(*asked, workload="live", deadlineMs=20_000, jobToken="secret")
    assert push(gateway.url, path, SEGMENT, configuration(*asked)).status == 401
    assert push(gateway.url, path, SEGMENT, configuration(*asked, jobToken="no")).status == 403
    strict = configuration(*asked, manifestID="x", jobToken="secret")
    assert push(gateway.url, path, SEGMENT, strict).status == 400

    gateway.control("latency", 1.2)
    hurry = configuration(*asked, deadlineMs=700, jobToken="secret")
    late = push(gateway.url, path, SEGMENT, hurry)
    assert (late.status, late.text) == (503, "No sessions available")
    joined = push(gateway.url, path, SEGMENT, good)
    assert joined.status == 200
    assert [entry["joined"] for entry in gateway.log()[-2:]] == [False, True]
    gateway.control("latency", 0)
    other = segment(replace(SHAPE, start_s=20))
    assert push(gateway.url, path, other, good).status == 422
    assert push(gateway.url, "/live/m/2.ts", other, good).status == 200


@pytest.mark.livepeer("12.2")
def test_frameworks_webhook(start_double: StartGateway, webhook: tuple[str, type[Webhook]]) -> None:
    address, hook = webhook
    reply = {"manifestID": "real", "tenantID": "t", "streamID": "s", "profiles": [profile("one", 146, 82)]}
    more = {"workload": "live", "deadlineMs": 0, "minSpeed": 0, "authorizedEdgeNodeID": "", "specDigest": ""}
    hook.replies = {
        "m": (200, json.dumps(reply | more).encode()),
        "short": (200, json.dumps(reply).encode()),
    }
    gateway = start_double("--dialect", "frameworks", "--webhook", address)
    header = configuration(profile("one", 146, 82), deadlineMs=20_000, jobToken="t")
    assert push(gateway.url, "/live/m/0.ts", SEGMENT, header).status == 200
    assert push(gateway.url, "/live/short/0.ts", SEGMENT, header).status == 403
    assert hook.asked[0].keys() == {"url", "profiles", "source", "jobToken", "remoteIP"}


@pytest.mark.livepeer("13.1")
def test_record(double: RunningGateway) -> None:
    name = fresh()
    push(double.url, f"/live/{name}/3.ts?x=1", SEGMENT, ONE | PARTS)
    entry = double.log()[-1]
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", f"/live/{name}/3.ts", 200)
    assert (entry["body_bytes"], len(entry["body_sha256"]), entry["renditions"]) == (
        len(SEGMENT),
        64,
        ["one"],
    )
    assert entry["headers"]["accept"] == "multipart/mixed"
    assert entry["new_session"]
    assert entry["ended_s"] >= entry["began_s"]


def test_work_for_benchmarks(start_double: StartGateway) -> None:
    """Answers that cost nothing are well formed, too."""
    copied = start_double("--work", "remux")
    first, second = push(copied.url, "/live/m/0.ts", SEGMENT, TWO).renditions
    assert first.data == second.data != SEGMENT
    assert media_of(first.data).video_pts == media_of(SEGMENT).video_pts
    kept = start_double("--work", "remembered")
    bodies = [push(kept.url, f"/live/m/{n}.ts", SEGMENT, TWO).renditions[0].data for n in range(2)]
    assert bodies[0] == bodies[1]
