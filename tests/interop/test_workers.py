"""`fwnode run --workers 2`: both serve the same, one may crash, and none outlives its node."""

import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import m3u8
import pytest
from clips import FPS, Clips, decoded_frames, need, publishing, run
from live_node import PATIENCE_S, LiveNode, StartNode, answer_of, until
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, Request

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc/net/tcp"),
]

WORKERS = 2
STREAM = "cam"
FOLDER = f"/live/{STREAM}/v1/"
BURST = ("-readrate", "1", "-readrate_initial_burst", "15")
CONNECTIONS_MAX = 60  # until both workers had one: an even chance each time
BACK_S = 10.0  # for a worker to be there again; a second when the machine is idle


def serving(node: LiveNode) -> dict[int, int]:
    """Process numbers of the workers that serve, by their number."""
    return {row["number"]: row["pid"] for row in node.status()["workers"] if row["state"] == "serving"}


def await_workers(node: LiveNode) -> dict[int, int]:
    return until(
        lambda: found if len(found := serving(node)) == WORKERS else None, "every worker serves", BACK_S
    )


def inode_of(server_port: int, client_port: int) -> str:
    """The server's socket of one connection on loopback."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = tuple(int(address.rpartition(":")[2], 16) for address in fields[1:3])
        if ports == (server_port, client_port):
            return fields[9]
    return ""


def holder(pids: dict[int, int], inode: str) -> int:
    """Number of the worker that has that socket, 0: none of them."""
    for number, pid in pids.items():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if str(entry.readlink()) == f"socket:[{inode}]":
                    return number
            except FileNotFoundError:
                continue
    return 0


class Viewers:
    """A kept-alive connection to each worker."""

    def __init__(self, node: LiveNode) -> None:
        self.by_worker: dict[int, http.client.HTTPConnection] = {}
        pids = await_workers(node)
        for _ in range(CONNECTIONS_MAX):
            connection = node.connect()
            connection.request("GET", "/healthz")
            assert answer_of(connection.getresponse()).status == 200
            client_port = connection.sock.getsockname()[1]
            worker = holder(pids, inode_of(node.address("http")[1], client_port))
            assert worker, "the agent accepts no more"
            if worker in self.by_worker:
                connection.close()
            else:
                self.by_worker[worker] = connection
            if len(self.by_worker) == WORKERS:
                return
        raise AssertionError(f"only {list(self.by_worker)} of {CONNECTIONS_MAX} connections")

    def fetch(self, path: str) -> dict[int, tuple[int, bytes]]:
        """Status and body from each."""
        found = {}
        for worker, connection in self.by_worker.items():
            connection.request("GET", path)
            answer = answer_of(connection.getresponse())
            found[worker] = (answer.status, answer.body)
        return found

    def close(self) -> None:
        for connection in self.by_worker.values():
            connection.close()


@pytest.fixture(scope="module")
def node(
    start_for_module: StartNode, clips: Clips, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveNode]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    made = run(
        need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    tls = ("--https", "127.0.0.1:0", "--https-cert", certificate, "--https-key", key)
    node = start_for_module("--workers", str(WORKERS), *tls, ingest__open=True, hls__segment_s=1)
    with publishing(node, clips.long, STREAM, *BURST):
        yield node


@pytest.fixture
def viewers(node: LiveNode) -> Iterator[Viewers]:
    found = Viewers(node)
    yield found
    found.close()


def test_every_worker_serves_the_same_bytes(node: LiveNode, viewers: Viewers) -> None:
    def shared() -> set[str] | None:
        lists = [m3u8.loads(body.decode()) for _, body in viewers.fetch(FOLDER + "index.m3u8").values()]
        assert all(len(playlist.segments) >= 4 for playlist in lists), "a first playlist is a whole one"
        names = []
        for playlist in lists:
            own = {section.uri for section in playlist.segment_map}
            for segment in playlist.segments:
                own |= {part.uri for part in segment.parts} | ({segment.uri} if segment.uri else set())
            names.append(own)
        return names[0] & names[1]

    names = until(lambda: found if len(found := shared() or set()) > 12 else None, "a dozen objects")
    compared = 0
    for name in sorted(names, reverse=True):
        one, other = viewers.fetch(FOLDER + name).values()
        if one[0] == other[0] == 200:
            assert one[1] == other[1] and one[1], name
            compared += 1
    assert compared > 10
    for path in ("/", f"/watch/{STREAM}", "/player/player.js", f"/live/{STREAM}/poster.jpg"):
        one, other = viewers.fetch(path).values()
        assert one[0] == other[0] == 200, path
        assert path == "/" or one[1] == other[1], path
    assert STREAM.encode() in viewers.fetch("/")[1][1]
    for path in ("/live/nobody/index.m3u8", "/live/nobody.ts", "/live/nobody/poster.jpg", "/nothing"):
        assert {status for status, _ in viewers.fetch(path).values()} == {404}, path


def test_a_blocking_reload_in_every_worker(viewers: Viewers) -> None:
    body = viewers.fetch(FOLDER + "index.m3u8")[1][1].decode()
    playlist = m3u8.loads(body)
    next_segment = (playlist.media_sequence or 0) + len(playlist.segments)
    answers = viewers.fetch(f"{FOLDER}index.m3u8?_HLS_msn={next_segment}&_HLS_part=0").values()
    assert {status for status, _ in answers} == {200}
    assert all(f"{next_segment}.0.m4s" in text.decode() for _, text in answers)


def test_every_way_to_watch(node: LiveNode) -> None:
    await_workers(node)
    assert decoded_frames(node.url(f"/live/{STREAM}.mp4"), seconds=1) >= FPS - 1
    assert decoded_frames(node.url(f"/live/{STREAM}/index.m3u8"), seconds=2) >= FPS
    assert decoded_frames(node.url(f"/live/{STREAM}.ts", "https"), "-tls_verify", "0", seconds=1) >= FPS - 1
    assert decoded_frames(node.rtmp_url(STREAM), seconds=1) >= FPS - 1  # from the agent
    protocol = WSConnection(ConnectionType.CLIENT)
    host, port = node.address("http")
    with socket.create_connection((host, port), timeout=PATIENCE_S) as sock:
        sock.sendall(protocol.send(Request(host=f"{host}:{port}", target=f"/live/{STREAM}/ws")))
        binaries = bytearray()
        while b"moof" not in binaries:
            data = sock.recv(65536)
            assert data, "the socket ended"
            protocol.receive_data(data)
            for event in protocol.events():
                if isinstance(event, BytesMessage):
                    binaries += event.data


def test_the_agent_knows_who_watches(node: LiveNode, viewers: Viewers) -> None:
    responses = []
    for connection in viewers.by_worker.values():
        connection.request("GET", f"/live/{STREAM}.ts")
        responses.append(connection.getresponse())
        assert responses[-1].status == 200

    def counted() -> bool:
        found = (node.stream(STREAM) or {"viewers": {}})["viewers"]
        return found.get("ts") == WORKERS

    until(counted, "both viewers")
    status = node.status()
    assert status["viewers"] >= WORKERS and status["connections"] >= WORKERS
    assert status["bytes_out"] > 10_000 and status["connections_accepted"] >= WORKERS
    assert all(row["connections"] and row["memory_bytes"] > 1_000_000 for row in status["workers"])
    text = node.fetch("/metrics", listener="admin").text
    assert f'fwnode_stream_viewers{{protocol="ts",stream="{STREAM}"}} 2.0' in text
    assert 'fwnode_worker_serving{worker="2"} 1.0' in text
    assert "2 of 2 serve" in node.cli("status").stdout
    for response in responses:
        response.close()
    until(lambda: not (node.stream(STREAM) or {})["viewers"].get("ts"), "nobody by .ts")


def test_a_worker_is_killed(node: LiveNode, viewers: Viewers) -> None:
    """Viewers that it had connect again; nobody else notices, and it is back."""
    before = await_workers(node)
    os.kill(before[1], signal.SIGKILL)
    began = time.monotonic()
    answers = 0
    while len(after := serving(node)) < WORKERS or after == before:
        answer = node.fetch(FOLDER + "index.m3u8")  # on a new connection, to either of them
        assert answer.status == 200 and m3u8.loads(answer.text).segments
        answers += 1
        assert time.monotonic() - began < BACK_S
    print(f"back after {time.monotonic() - began:.1f} s, {answers} playlists meanwhile")
    assert answers >= 3 and after[2] == before[2]
    other = viewers.by_worker[2]
    other.request("GET", "/healthz")
    assert answer_of(other.getresponse()).status == 200
    with pytest.raises((http.client.HTTPException, OSError)):
        viewers.by_worker[1].auto_open = 0
        viewers.by_worker[1].request("GET", "/healthz")
        viewers.by_worker[1].getresponse()
    line = node.await_log("worker ended, starting it again", reason="SIGKILL")
    assert line["worker"] == 1
    again = Viewers(node)
    assert {status for status, _ in again.fetch(FOLDER + "index.m3u8").values()} == {200}
    again.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_node(start: StartNode, number: int) -> None:
    node = start("--workers", str(WORKERS))
    pids = await_workers(node)
    os.kill(pids[1], signal.SIGSTOP)  # one that hangs
    code = node.stop(number)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    until(lambda: not any(map(is_alive, pids.values())), "the workers are gone", 5.0)


def test_draining(start: StartNode, clips: Clips) -> None:
    """/healthz of every worker says so, who watches may stay, and signals to the group are the agent's."""
    node = start("--workers", str(WORKERS), ingest__open=True, drain_s=20)
    with publishing(node, clips.long, STREAM, to_the_end=False):
        viewers = Viewers(node)
        watching = node.connect()
        watching.request("GET", f"/live/{STREAM}.ts")
        response = watching.getresponse()
        assert response.status == 200
        until(lambda: node.status()["viewers"] == 1, "the viewer is counted")
        for pid in await_workers(node).values():
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        node.signal(signal.SIGTERM)
        until(lambda: node.fetch("/healthz").status == 503, "it says that it drains")
        assert {status for status, _ in viewers.fetch("/healthz").values()} == {503}
        assert response.read(10_000)
        watching.close()
        response.close()
        viewers.close()
        assert node.process.wait(PATIENCE_S) == 0


def test_a_stream_of_another_node(start: StartNode, clips: Clips) -> None:
    """The first viewer of a worker has the agent fetch it; a name that nobody has is 404."""
    origin = start("--name", "origin", ingest__open=True)
    edge = start("--name", "edge", "--workers", str(WORKERS))
    edge.cli("join", origin.cli_json("invite")["invite"])
    await_workers(edge)
    with publishing(origin, clips.long, STREAM, to_the_end=False):

        def told() -> bool:
            peers = {peer["name"]: peer for peer in edge.cli_json("peers")["peers"]}
            return STREAM in peers.get("origin", {"streams": []})["streams"]

        until(told, "the edge knows who has the stream")
        viewers = Viewers(edge)
        for path in ("/live/nobody/index.m3u8", "/live/nobody.ts"):
            assert {status for status, _ in viewers.fetch(path).values()} == {404}, path

        def served() -> bool:
            return {status for status, _ in viewers.fetch(FOLDER + "index.m3u8").values()} == {200}

        until(served, "both workers have it: records of a member that has just joined come one by one")
        assert decoded_frames(edge.url(f"/live/{STREAM}.ts"), seconds=1) >= FPS - 1
        assert (edge.stream(STREAM) or {})["source"]["protocol"] == "mesh"
        viewers.close()
        fetches = [line for line in edge.log() if line["event"] == "stream fetched"]
        assert len(fetches) == 1


def test_a_worker_knows_nothing_of_the_network() -> None:
    script = "import sys, fwnode.workers.worker; print([m for m in sys.modules if m.startswith('mesh')])"
    done = run(sys.executable, "-c", script)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_port_that_is_shared_is_taken(node: LiveNode, tmp_path: Path) -> None:
    host, port = node.address("http")
    done = node.cli(
        "run", "--data-dir", str(tmp_path / "other"), "--http", f"{host}:{port}", "--rtmp", "off",
        "--mesh", "off", "--admin", "127.0.0.1:0", "--workers", "2", check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "another program has it" in done.stderr
    assert node.status()["state"] == "ready"
