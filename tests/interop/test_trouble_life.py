"""A node that is stopped, killed, runs out of disk or of descriptors, and what it still has afterwards."""

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import FPS, Clips, publishing
from live_node import LiveNode, StartNode, until
from rtmp_client import RtmpClient
from witness import FlvViewer, Witness

pytestmark = pytest.mark.interop

STEADY = "steady"
SEGMENTS = 2
DISK_BYTES = 2_000_000


def objects(node: LiveNode, stream: str) -> dict[str, bytes]:
    """Every immutable object that the playlists name, by its path."""
    folder = f"/live/{stream}/v1/"
    text = node.fetch(folder + "index.m3u8").text
    names = re.findall(r'URI="((?:init-\d+\.mp4|\d+\.\d+\.m4s))"|^(\d+\.m4s)$', text, re.MULTILINE)
    found = {}
    for name in filter(None, [first or second for first, second in names]):
        if f'PART,URI="{name}"' not in text:
            answer = node.fetch(folder + name)
            assert answer.status == 200 and "immutable" in answer.header("cache-control")
            found[name] = answer.body
    return found


def await_segments(node: LiveNode, stream: str) -> None:
    until(
        lambda: node.fetch(f"/live/{stream}/v1/index.m3u8").text.count("#EXTINF") >= SEGMENTS,
        f"{SEGMENTS} segments of {stream}",
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_node_that_ends_while_somebody_publishes(
    start: StartNode, clips: Clips, tmp_path: Path, number: signal.Signals
) -> None:
    """It starts again on its folder: the key is good, and no name comes back for other bytes."""
    folder = tmp_path / "data"
    first = start(data_dir=folder, hls__segment_s=1)
    key = first.new_key("cam")
    with publishing(first, clips.long, key, stream="cam", to_the_end=False):
        await_segments(first, "cam")
        old = objects(first, "cam")
        assert len(old) > 2 * SEGMENTS
        assert first.stop(number) == (0 if number is signal.SIGTERM else -number)
    second = start(data_dir=folder, hls__segment_s=1)
    assert "sk_" not in second.stdout, "the first start was long ago"
    with publishing(second, clips.long, key, stream="cam"):
        await_segments(second, "cam")
        new = objects(second, "cam")
        assert second.status()["streams"] == 1
        assert not old.keys() & new.keys()
    assert key not in str(first.log()) + str(second.log())


def test_a_node_that_drains(start: StartNode, clips: Clips) -> None:
    """Who watches may go on for a while; who is new is sent elsewhere; it goes with its last viewer."""
    node = start(ingest__open=True, drain_s=20)
    with publishing(node, clips.long, STEADY, to_the_end=False):
        with Witness(node, STEADY), FlvViewer(node, STEADY):
            node.signal(signal.SIGTERM)
            until(lambda: node.fetch("/healthz").status == 503, "draining")
            assert node.fetch("/healthz").text == "draining\n"
            assert node.status()["state"] == "draining"
            playlist = node.fetch(f"/live/{STEADY}/v1/index.m3u8")
            assert (playlist.status, playlist.header("connection")) == (200, "close")
            with pytest.raises(ConnectionRefusedError):
                RtmpClient(node.address("rtmp"))
        assert node.process.wait(10) == 0
    node.await_log("draining", signal="SIGTERM")


def test_a_second_signal_ends_it_at_once(start: StartNode, clips: Clips) -> None:
    node = start(ingest__open=True, drain_s=60)
    with publishing(node, clips.long, STEADY, to_the_end=False), FlvViewer(node, STEADY):
        node.signal(signal.SIGTERM)
        until(lambda: node.fetch("/healthz").status == 503, "draining")
        assert node.stop(signal.SIGTERM) == 128 + signal.SIGTERM


# Disk.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte free."""
    path = disk / "ballast"
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


def test_a_full_disk_stops_nothing_that_streams(start: StartNode, clips: Clips, small_disk: Path) -> None:
    node = start(data_dir=small_disk / "data", hls__segment_s=1)
    key = node.new_key()
    with publishing(node, clips.long, f"{STEADY}?key={key}", stream=STEADY), Witness(node, STEADY):
        ballast = fill(small_disk)
        failed = until(lambda: failed_to_make_a_key(node), "a key that cannot be kept")
        assert failed.count("\n") == 1 and "free some space" in failed, failed
        assert node.status()["state"] == "ready"
        with RtmpClient(node.address("rtmp")) as client:
            assert client.publish(f"other?key={key}") == "NetStream.Publish.Start"
            client.send_tags(clips.usual(2))
            client.settle()
            assert len(objects(node, "other")) >= 2
        ballast.unlink()
        assert node.new_key() != key
    assert node.stop(signal.SIGTERM) == 0


def failed_to_make_a_key(node: LiveNode) -> str:
    """What `fwnode key new` complains of; empty while there was still room in the database's pages."""
    ran = node.cli("key", "new", check=False)
    return str(ran.stderr) if ran.returncode == 1 else ""


def test_a_node_whose_disk_is_full_when_it_stops_ends_well(
    start: StartNode, clips: Clips, small_disk: Path
) -> None:
    folder = small_disk / "data"
    node = start(data_dir=folder)
    key = node.new_key()
    with RtmpClient(node.address("rtmp")) as client:
        client.publish(f"x?key={key}")
        ballast = fill(small_disk)
        until(lambda: failed_to_make_a_key(node), "a key that cannot be kept")
        assert node.stop(signal.SIGTERM) == 0
    node.await_log("key use not kept", reason="free some space")
    ballast.unlink()
    again = start(data_dir=folder)
    with RtmpClient(again.address("rtmp")) as client:
        assert client.publish(f"x?key={key}") == "NetStream.Publish.Start"


def test_a_node_does_not_start_on_a_full_disk(start: StartNode, small_disk: Path) -> None:
    node = start()
    fill(small_disk)
    listen = tuple(
        word for option in ("--http", "--rtmp", "--mesh", "--admin") for word in (option, "127.0.0.1:0")
    )
    ran = node.cli("run", "--data-dir", str(small_disk / "data"), *listen, check=False)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1 and "free some space" in ran.stderr, ran.stderr


# Descriptors.


def test_a_node_without_descriptors_goes_on_with_who_is_there(start: StartNode, clips: Clips) -> None:
    node = start(ingest__open=True)
    node.faults_expected = {"accept"}
    node.errors_expected = {"connection fault: accept"}
    with publishing(node, clips.long, STEADY), Witness(node, STEADY):
        _, hard = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (node.descriptors() + 10, hard))
        crowd = [socket.create_connection(node.address("http")) for _ in range(40)]
        line = node.await_log("connection fault: accept", reason="Too many open files")
        assert line["peer"] == "{}:{}".format(*node.address("http"))
        for sock in crowd:
            sock.close()
        assert node.fetch(f"/live/{STEADY}/index.m3u8").status == 200


# The demo's child.


def test_the_demo_comes_back_when_its_child_dies_and_dies_with_the_node(start: StartNode) -> None:
    node = start("--demo", hls__segment_s=1)
    node.await_stream("demo")
    child = demo_child(node)
    with FlvViewer(node, "demo") as viewer:
        os.kill(child, signal.SIGKILL)
        node.await_log("demo source ended, starting it again", stream="demo")
        stream = until(
            lambda: (found := node.stream("demo")) and found["sections"] == 2 and found, "the demo again"
        )
        assert stream["publishers"] == 2
        before = len(viewer.times("video"))
        until(lambda: len(viewer.times("video")) > before + FPS, "its picture, for the viewer who stayed")
    child = demo_child(node)
    assert node.stop(signal.SIGKILL) == -signal.SIGKILL
    until(lambda: not Path(f"/proc/{child}/cmdline").exists() or is_zombie(child), "the child's end")


def demo_child(node: LiveNode) -> int:
    """Process id of the worker; a child belongs to the thread that started it."""
    threads = Path(f"/proc/{node.process.pid}/task").glob("*/children")
    children = [int(pid) for path in threads for pid in path.read_text().split()]
    [child] = [pid for pid in children if b"fwnode.demo.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return child


def is_zombie(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
