"""A whole node with a stream in real time, watched in every way by programs that we did not write."""

import gzip
import http.client
import json
import re
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import m3u8
import pytest
from clips import FFMPEG_5, FFMPEG_9, FPS, Clips, decoded_frames, need, publishing, run
from live_node import Answer, LiveNode, StartNode, answer_of, until
from rtmp_client import RtmpClient
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage

pytestmark = pytest.mark.interop

STREAM = "cam"
PLAYLIST = f"/live/{STREAM}/v1/index.m3u8"
FOLDER = f"/live/{STREAM}/v1/"
# Enough for a playlist that can be skipped in, at once; then in real time.
BURST = ("-readrate", "1", "-readrate_initial_burst", "15")
BYTES_A_SECOND = 20_000  # of the stream
NODE_PROGRAMS = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def node(
    start_for_module: StartNode, clips: Clips, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveNode]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    made = run(
        need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", *subject, "-keyout", key, "-out", certificate,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    tls = ("--https", "127.0.0.1:0", "--https-cert", certificate, "--https-key", key)
    node = start_for_module(*tls, ingest__open=True, hls__segment_s=1)
    node.faults_expected = {"remote"}  # curl's complaint of the certificate
    with publishing(node, clips.long, STREAM, *BURST):
        until(lambda: len(media_playlist(node).segments) > 12, "a dozen segments")
        yield node


def media_playlist(node: LiveNode, query: str = "") -> m3u8.M3U8:
    answer = node.fetch(PLAYLIST + query)
    assert answer.status == 200, answer.text
    return m3u8.loads(answer.text)


# Playlists.


def test_another_parser_reads_the_playlists(node: LiveNode) -> None:
    if not (NODE_PROGRAMS / "node_modules" / "hls-parser").exists():
        pytest.skip("no hls-parser: run `npm ci --prefix tests/interop/node`")
    script = (
        "const HLS = require('hls-parser');"
        "HLS.setOptions({strictMode: true});"
        "const text = require('fs').readFileSync(0, 'utf8');"
        "process.stdout.write(JSON.stringify(HLS.parse(text)));"
    )

    def parse(path: str) -> Any:
        done = subprocess.run(
            [need("node"), "-e", script],
            input=node.fetch(path).body,
            cwd=NODE_PROGRAMS,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    variants = parse(f"/live/{STREAM}/index.m3u8")
    assert variants["variants"][0]["codecs"].startswith("avc1.42c0")
    media = parse(PLAYLIST)
    assert media["lowLatencyCompatibility"]["canBlockReload"] is True
    assert any(segment["parts"] for segment in media["segments"])
    assert parse(f"{PLAYLIST}?_HLS_skip=YES")["skip"] > 0


def test_a_playlist_is_as_the_draft_wants_it(node: LiveNode) -> None:
    playlist = media_playlist(node)
    control = playlist.server_control
    assert control.can_block_reload == "YES"
    assert control.part_hold_back >= 2 * playlist.part_inf.part_target
    for segment in playlist.segments[:-1]:
        assert round(segment.duration) <= playlist.target_duration
        assert segment.program_date_time is not None
    parts = [part for segment in playlist.segments for part in segment.parts]
    assert all(part.duration <= playlist.part_inf.part_target for part in parts)
    assert any(part.independent == "YES" for part in parts)
    assert playlist.preload_hint.hint_type == "PART"


def test_a_delta_update_leaves_out_what_the_player_has(node: LiveNode) -> None:
    whole, delta = node.fetch(PLAYLIST).text, node.fetch(PLAYLIST + "?_HLS_skip=YES").text
    skipped = int(re.findall(r"#EXT-X-SKIP:SKIPPED-SEGMENTS=(\d+)", delta)[0])
    assert skipped >= 3
    first = int(re.findall(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", delta)[0])
    assert f"\n{first + skipped}.m4s\n" in delta and f"\n{first + skipped - 1}.m4s\n" not in delta
    assert len(delta) < len(whole)


def test_the_names_of_objects_are_the_same_with_a_token(node: LiveNode) -> None:
    variants = m3u8.loads(node.fetch(f"/live/{STREAM}/index.m3u8?token=abc").text)
    assert variants.playlists[0].uri == "v1/index.m3u8?token=abc"
    assert "token" not in node.fetch(f"{PLAYLIST}?token=abc").text


# LL-HLS.


def newest_part(text: str) -> tuple[int, int]:
    msn, part = re.findall(r'#EXT-X-PART:[^\n]*URI="(\d+)\.(\d+)\.m4s"', text)[-1]
    return int(msn), int(part)


def upcoming_part(text: str) -> tuple[int, int]:
    [(msn, part)] = re.findall(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="(\d+)\.(\d+)\.m4s"', text)
    return int(msn), int(part)


def test_a_blocking_reload_answers_with_the_part_it_waited_for(node: LiveNode) -> None:
    """As a player does it: on one connection, each time for the part that was hinted at."""
    connection = node.connect()
    text = node.fetch(PLAYLIST).text
    began, media_s = time.monotonic(), 0.0
    for _ in range(5):
        msn, part = upcoming_part(text)
        connection.request("GET", f"{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}")
        answer = answer_of(connection.getresponse())
        text = answer.text
        assert answer.status == 200 and newest_part(text) >= (msn, part)
        assert "max-age" in answer.header("cache-control")
        media_s += float(re.findall(rf'#EXT-X-PART:DURATION=([\d.]+),URI="{msn}\.{part}\.m4s"', text)[0])
    connection.close()
    # Held until the media was there: five parts take as long as they play, but for the first and jitter.
    assert time.monotonic() - began > media_s - 1.0


def test_held_requests_are_answered_in_the_order_of_the_parts(node: LiveNode) -> None:
    """Asked for all at once, the last one first: a whole segment, its first part, the part before that."""
    msn, part = upcoming_part(node.fetch(PLAYLIST).text)
    later = [f"{PLAYLIST}?_HLS_msn={msn + 1}", f"{PLAYLIST}?_HLS_msn={msn + 1}&_HLS_part=0"]
    wanted = [*later, f"{FOLDER}{msn}.{part}.m4s"]
    with ExitStack() as stack:
        asked: dict[socket.socket, int] = {}
        for number, path in enumerate(wanted):
            sock = stack.enter_context(socket.create_connection(node.address("http"), timeout=20))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            asked[sock] = number
        order: list[int] = []
        while asked:
            ready, _, _ = select.select(list(asked), [], [], 20)
            assert ready
            for sock in ready:
                assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
                order.append(asked.pop(sock))
    assert order == [2, 1, 0]


@pytest.mark.parametrize(
    ("ahead", "query"),
    [(4, "_HLS_msn={}"), (0, "_HLS_part=0"), (0, "_HLS_msn=x"), (0, "_HLS_msn={}&_HLS_part=99999")],
)
def test_impossible_reloads_are_refused_at_once(node: LiveNode, ahead: int, query: str) -> None:
    msn, _ = upcoming_part(node.fetch(PLAYLIST).text)
    answer = node.fetch(f"{PLAYLIST}?{query.format(msn + ahead)}")
    assert answer.status == 400 and "_HLS_" in answer.text


def test_curl_blocks_too(node: LiveNode) -> None:
    msn, part = upcoming_part(node.fetch(PLAYLIST).text)
    url = node.url(f"{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}")
    done = run(need("curl"), "-sS", "--compressed", "--fail-with-body", "-m", "20", url)
    assert done.returncode == 0 and newest_part(done.stdout) >= (msn, part)


# Players.


@pytest.mark.parametrize("program", [FFMPEG_5, FFMPEG_9], ids=["ffmpeg5", "ffmpeg9"])
@pytest.mark.parametrize(
    "path", [f"{STREAM}/index.m3u8", f"{STREAM}.mp4", f"{STREAM}.ts", f"{STREAM}.flv"], ids=lambda p: p[-4:]
)
def test_ffmpeg_plays_it(node: LiveNode, program: str, path: str) -> None:
    quick = () if path.endswith("m3u8") else ("-probesize", "50000", "-analyzeduration", "500000")
    assert decoded_frames(node.url(f"/live/{path}"), *quick, program=program, seconds=1.5) >= FPS


@pytest.mark.parametrize("program", [FFMPEG_5, FFMPEG_9], ids=["ffmpeg5", "ffmpeg9"])
def test_ffmpeg_plays_rtmp(node: LiveNode, program: str) -> None:
    quick = ("-probesize", "50000", "-analyzeduration", "500000")
    assert decoded_frames(node.rtmp_url(STREAM), *quick, program=program, seconds=1.5) >= FPS


def test_rtmpdump_plays_it(node: LiveNode, tmp_path: Path) -> None:
    file = tmp_path / "out.flv"
    with subprocess.Popen(
        [need("rtmpdump"), "--quiet", "--live", "-r", node.rtmp_url(STREAM), "-o", "-"],
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        file.write_bytes(child.stdout.read(BYTES_A_SECOND * 3))
        child.kill()
    assert decoded_frames(str(file), end_is_cut=True) >= FPS


def read_websocket(node: LiveNode, seconds: float) -> tuple[list[dict[str, Any]], bytes]:
    """What comes on /ws in so long, by wsproto: the texts, and the binaries as one file."""
    texts: list[dict[str, Any]] = []
    binaries = bytearray()
    protocol = WSConnection(ConnectionType.CLIENT)
    host, port = node.address("http")
    with socket.create_connection((host, port), timeout=20) as sock:
        sock.sendall(protocol.send(Request(host=f"{host}:{port}", target=f"/live/{STREAM}/ws")))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            protocol.receive_data(sock.recv(65536))
            for event in protocol.events():
                match event:
                    case AcceptConnection() | CloseConnection():
                        pass
                    case TextMessage():
                        assert event.message_finished
                        texts.append(json.loads(event.data))
                    case BytesMessage():
                        binaries += event.data
        sock.sendall(protocol.send(CloseConnection(code=1000)))
        while sock.recv(65536):
            pass
    return texts, bytes(binaries)


def test_a_websocket_brings_an_init_and_fragments(node: LiveNode, tmp_path: Path) -> None:
    texts, whole = read_websocket(node, 1.5)
    [init] = texts
    assert init["type"] == "init" and (init["width"], init["height"]) == (160, 90)
    assert re.fullmatch(r'video/mp4; codecs="avc1\.42c0[0-9a-f]{2},mp4a\.40\.2"', init["mime"])
    assert [track["kind"] for track in init["tracks"]] == ["video", "audio"]
    file = tmp_path / "socket.mp4"
    file.write_bytes(whole)
    assert decoded_frames(str(file)) >= FPS


def test_a_segment_is_its_parts_while_live(node: LiveNode) -> None:
    compared = 0
    for segment in media_playlist(node).segments[-4:-1]:
        pieces = [node.fetch(FOLDER + part.uri).body for part in segment.parts]
        if pieces:
            assert b"".join(pieces) == node.fetch(FOLDER + segment.uri).body
            compared += 1
    assert compared


# HTTP.


def test_playlists_are_compressed_for_who_can(node: LiveNode) -> None:
    packed = node.fetch(PLAYLIST, accept_encoding="gzip")
    assert packed.header("content-encoding") == "gzip" and packed.header("vary") == "Accept-Encoding"
    assert gzip.decompress(packed.body).startswith(b"#EXTM3U\n")
    plain = node.fetch(PLAYLIST, accept_encoding="identity")
    assert not plain.header("content-encoding") and plain.body.startswith(b"#EXTM3U\n")


@pytest.fixture(scope="module")
def segment(node: LiveNode) -> str:
    """The path of a complete segment, which stays for the whole module's second half at least."""
    return FOLDER + str(media_playlist(node).segments[-2].uri)


def test_media_objects_are_immutable_and_ranges_work(node: LiveNode, segment: str) -> None:
    whole = node.fetch(segment)
    assert whole.header("cache-control") == "public, max-age=31536000, immutable"
    assert whole.header("content-type") == "video/mp4"
    part = node.fetch(segment, range="bytes=10-109")
    assert part.status == 206 and part.body == whole.body[10:110]
    assert part.header("content-range") == f"bytes 10-109/{len(whole.body)}"
    assert node.fetch(segment, range="bytes=-50").body == whole.body[-50:]
    assert node.fetch(segment, range=f"bytes={len(whole.body)}-").status == 416


def test_conditions_and_head(node: LiveNode, segment: str) -> None:
    whole = node.fetch(segment)
    same = node.fetch(segment, if_none_match=whole.header("etag"))
    assert (same.status, same.body) == (304, b"")
    assert node.fetch(segment, if_none_match='"other"').status == 200
    head = node.fetch(segment, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == str(len(whole.body))
    progressive = node.fetch(f"/live/{STREAM}.mp4", "HEAD")
    assert (progressive.status, progressive.body) == (200, b"")


def test_any_page_may_ask(node: LiveNode, segment: str) -> None:
    paths = ["/", PLAYLIST, segment, "/live/nothing/index.m3u8", "/healthz"]
    for answer in [node.fetch(path, origin="https://example.org") for path in paths]:
        assert answer.header("access-control-allow-origin") == "*"
        assert answer.header("timing-allow-origin") == "*"
    asked = {"origin": "https://example.org", "access_control_request_method": "GET"}
    preflight = node.fetch(segment, "OPTIONS", access_control_request_headers="range,authorization", **asked)
    assert preflight.status == 204
    assert "GET" in preflight.header("access-control-allow-methods")
    allowed = preflight.header("access-control-allow-headers").lower()
    assert "range" in allowed and "authorization" in allowed


def test_every_header_comes_once(node: LiveNode, segment: str) -> None:
    sock = socket.create_connection(node.address("http"), timeout=20)
    sock.sendall(f"GET /live/{STREAM}.flv HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = sock.recv(65536).partition(b"\r\n\r\n")[0].decode()
    sock.close()
    names = [line.partition(":")[0].lower() for line in head.split("\r\n")[1:]]
    assert sorted(names) == sorted(set(names))
    for path in (PLAYLIST, segment, f"/live/{STREAM}/index.m3u8", "/"):
        names = [name.lower() for name, _ in node.fetch(path).headers]
        assert sorted(names) == sorted(set(names)), path


def test_the_same_object_twice_on_one_connection(node: LiveNode, segment: str) -> None:
    connection = node.connect()
    answers: list[Answer] = []
    for path in (segment, segment, PLAYLIST, "/live/nothing/v1/1.m4s", segment):
        connection.request("GET", path)
        answers.append(answer_of(connection.getresponse()))
    connection.close()
    assert answers[0] == answers[1] == answers[4] or answers[0].body == answers[1].body == answers[4].body
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]


def test_errors_have_a_length_and_echo_nothing(node: LiveNode) -> None:
    marker = "echo-e7a1c2"
    cases = [
        ("GET", f"/live/{marker}/index.m3u8", 404),
        ("GET", f"/live/{STREAM}/v1/{marker}.m4s", 404),
        ("GET", f"/live/{STREAM}/v1/99.m4s", 404),
        ("GET", f"/{marker}", 404),
        ("GET", f"/watch/{marker}/x", 404),
        ("POST", PLAYLIST, 405),
        ("GET", f"/live/{STREAM}/ws", 426),
        ("GET", f"{PLAYLIST}?_HLS_msn={marker}", 400),
        ("GET", PLAYLIST, 200),
        ("HEAD", f"/live/{marker}.mp4", 404),
    ]
    for method, path, status in cases:
        answer = node.fetch(path, method, x_marker=marker, cookie=marker, referer=f"http://{marker}/")
        assert answer.status == status, (method, path, answer)
        assert answer.header("content-length").isdigit(), (method, path)
        assert marker not in str(answer.headers), answer.headers
        if "index.m3u8" not in path or status != 404:
            assert marker.encode() not in answer.body, (method, path, answer.body)


def test_https_serves_the_same(node: LiveNode, segment: str) -> None:
    curl = need("curl")
    url = node.url(segment, "https")
    assert run(curl, "-sS", "-o", "/dev/null", url).returncode == 60  # nobody vouches for it
    fetched = subprocess.run([curl, "-ksS", url], capture_output=True, timeout=60, check=False)
    assert fetched.returncode == 0 and fetched.stdout == node.fetch(segment).body
    shown = run(
        curl, "-ksS", "--http1.1", "-o", "/dev/null", "-w", "%{http_version} %{ssl_verify_result}", url
    )
    assert shown.stdout.startswith("1.1 ")
    master = node.url(f"/live/{STREAM}/index.m3u8", "https")
    assert decoded_frames(master, "-tls_verify", "0", program=FFMPEG_5, seconds=1) >= FPS - 1


# What the node says of it.


def test_everything_that_counts_viewers_agrees(node: LiveNode) -> None:
    until(lambda: not without_hls(node.stream(STREAM)), "no viewers of other tests")
    with ExitStack() as stack:
        for path in (f"{STREAM}.flv", f"{STREAM}.flv", f"{STREAM}.ts"):
            connection = node.connect()
            stack.callback(connection.close)
            connection.request("GET", f"/live/{path}")
            stack.enter_context(connection.getresponse())
        assert stack.enter_context(RtmpClient(node.address("rtmp"))).play(STREAM) == "NetStream.Play.Start"
        expected = {"flv": 2, "ts": 1, "rtmp": 1}
        until(lambda: without_hls(node.stream(STREAM)) == expected, f"viewers {expected}")
        [stream] = node.cli_json("streams")["streams"]
        assert (stream["name"], stream["state"]) == (STREAM, "live")
        assert stream["source"]["protocol"] == "rtmp" and stream["source"]["peer"].startswith("127.0.0.1:")
        video, audio = stream["tracks"]
        assert (video["codec"], video["width"], video["height"]) == ("h264", 160, 90)
        assert abs(video["frame_rate"] - FPS) < FPS / 4
        assert (audio["codec"], audio["sample_rate"], audio["channels"]) == ("aac", 48_000, 1)
        status = node.cli_json("status")
        assert (status["state"], status["streams"], status["publishers"]) == ("ready", 1, 1)
        assert status["viewers"] == sum(stream["viewers"].values())
        assert status["memory_bytes"] < 200_000_000
        metrics = node.fetch("/metrics", listener="admin").text
        assert f'fwnode_stream_viewers{{protocol="flv",stream="{STREAM}"}} 2.0' in metrics
        assert f'fwnode_stream_viewers{{protocol="rtmp",stream="{STREAM}"}} 1.0' in metrics
        assert 'fwnode_streams{state="live"} 1.0' in metrics
        sent = re.findall(r'fwnode_track_packets_total\{[^}]*track="v1"\} ([\d.e+]+)', metrics)
        assert abs(float(sent[0]) - node_frames(node)) < 10 * FPS
    until(lambda: not without_hls(node.stream(STREAM)), "the viewers are gone")


def without_hls(stream: dict[str, Any] | None) -> dict[str, int]:
    """Viewers with a connection of their own; those of HLS count for a while after their last request."""
    assert stream is not None
    return {protocol: count for protocol, count in stream["viewers"].items() if protocol != "hls"}


def node_frames(node: LiveNode) -> int:
    stream = node.stream(STREAM)
    assert stream is not None
    return int(stream["tracks"][0]["packets"])


def test_hls_viewers_are_counted_by_who_they_are(node: LiveNode) -> None:
    before = (node.stream(STREAM) or {"viewers": {}})["viewers"].get("hls", 0)
    for agent in ("player one", "player two"):
        for _ in range(2):
            assert node.fetch(PLAYLIST, user_agent=agent).status == 200
    node.fetch(PLAYLIST, user_agent="a probe, once")
    assert (node.stream(STREAM) or {})["viewers"]["hls"] == before + 2


def test_pages_lead_to_the_stream(node: LiveNode) -> None:
    assert f"/watch/{STREAM}" in node.fetch("/").text
    assert f'data-stream="{STREAM}"' in node.fetch(f"/watch/{STREAM}").text
    assert node.fetch(f"/embed/{STREAM}").status == 200
    assert node.fetch("/healthz").text == "ok\n"
    connection = http.client.HTTPConnection(*node.address("http"), timeout=20)
    connection.request("GET", "/healthz", headers={"Accept-Encoding": "gzip"})
    assert answer_of(connection.getresponse()).header("cache-control") == "no-store"
    connection.close()
