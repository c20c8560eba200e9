"""The command line as an operator uses it: real processes, real signals."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

START_BUDGET_S = 5.0  # well under 1 s when idle; the machine of the tests is shared and noisy
EXIT_BUDGET_S = 2.5  # a third of a second when idle


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FWNODE_")}

    def run(*arguments: str, text: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "fwnode", *arguments],
            env=kept | {"FWNODE_DATA_DIR": str(tmp_path / "data")} | variables,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def one_line(ran: "subprocess.CompletedProcess[str]", code: int, says: str) -> None:
    assert ran.returncode == code, ran.stderr
    assert ran.stderr.startswith("fwnode: ") and ran.stderr.count("\n") == 1, ran.stderr
    assert says in ran.stderr


def test_version(cli: Any) -> None:
    assert re.match(r"fwnode \d+\.\d+\.\d+ ", cli("version").stdout)
    assert set(json.loads(cli("version", "--json").stdout)) == {"version", "python", "system"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nonsense"], 2, "No such command"),
        (["run", "--nonsense"], 2, "No such option"),
        (["run", "--http"], 2, "requires an argument"),
        (["run", "--http", "nonsense"], 2, "--http: http = "),
        (["run", "--drain-s", "soon"], 2, "must be seconds from 0 to 3600"),
        (["run", "--set", "hls.part=1"], 2, 'did you mean "hls.part_s"?'),
        (["run", "--set", "demo"], 2, "write KEY=VALUE"),
        (["run", "--config", "/nonexistent.toml"], 2, "no such settings file"),
        (["run", "--admin", "0.0.0.0:0"], 2, "needs admin_password_hash"),
        (["run", "--https", "127.0.0.1:0"], 2, "needs https_cert"),
        (["status"], 1, "no node is running on "),
        (["streams", "--watch", "--json"], 2, "--watch is for people"),
        (["status", "--admin", "x"], 2, "--admin: "),
        (["key", "revoke", "nothing"], 1, "there is no stream key nothing"),
        (["key", "new", "--stream", "A B"], 2, "cannot be used"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(cli: Any, arguments: list[str], code: int, says: str) -> None:
    one_line(cli(*arguments), code, says)


def test_colour_and_tables_are_for_terminals(cli: Any) -> None:
    assert "\x1b" not in cli("config", "show").stdout + cli("nonsense").stderr


def test_config_shows_origins_and_checks(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fwnode.toml").write_text("[hls]\npart_s = 0.3\n")
    shown = json.loads(cli("config", "show", "--json", FWNODE_NAME="studio").stdout)["settings"]
    found = {entry["key"]: (entry["value"], entry["origin"]) for entry in shown}
    assert found["hls.part_s"] == (0.3, f"{tmp_path}/data/fwnode.toml:2")
    assert found["name"] == ("studio", "FWNODE_NAME")
    assert json.loads(cli("config", "path", "--json").stdout)["exists"] is True
    assert "are good" in cli("config", "check").stdout
    (tmp_path / "data" / "fwnode.toml").write_text("[hls]\npart_s = 3\n")
    one_line(cli("config", "check"), 2, "fwnode.toml:2: hls.part_s = 3.0 must be seconds from 0.2 to 1")


def test_keys_without_a_node(cli: Any, tmp_path: Path) -> None:
    assert json.loads(cli("key", "list", "--json").stdout) == {"keys": []}
    assert not (tmp_path / "data").exists()
    made = json.loads(cli("key", "new", "--stream", "cam-*", "--label", "stage", "--json").stdout)
    listed = cli("key", "list", "--json").stdout
    assert made["key"] not in listed
    assert [key["stream"] for key in json.loads(listed)["keys"]] == ["cam-*"]
    assert cli("key", "revoke", made["id"]).returncode == 0
    assert json.loads(cli("key", "list", "--json").stdout) == {"keys": []}


def test_password_line_works_in_the_settings_file(cli: Any, tmp_path: Path) -> None:
    line = cli("config", "password", text="hunter2\n").stdout
    assert "hunter2" not in line
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fwnode.toml").write_text(line + 'admin = "0.0.0.0:0"\n')
    assert cli("config", "check").returncode == 0
    shown = cli("config", "show", "--json").stdout
    assert "scrypt" not in shown and '"***"' in shown


def test_a_node_from_start_to_stop(start_node: Any) -> None:
    node = start_node("--name", "studio")
    assert node.started_in_s < START_BUDGET_S
    assert set(node.addresses) == {"http", "rtmp", "mesh", "admin"}
    assert not any(address.endswith(":0") for address in node.addresses.values())
    for address in node.addresses.values():
        assert address in node.stdout
    status = node.cli_json("status")
    assert (status["name"], status["state"], status["pid"]) == ("studio", "ready", node.process.pid)
    assert status["listeners"] == node.addresses
    assert node.cli_json("streams") == {"streams": []}
    assert "No streams" in node.cli("streams").stdout
    began = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < EXIT_BUDGET_S
    assert not (node.data_dir / "node.json").exists()
    one_line(node.cli("status", check=False), 1, "no node is running on")


def test_the_first_start_prints_a_key_once_and_it_is_nowhere_else(start_node: Any) -> None:
    node = start_node()
    key = re.search(r"Stream Key +(sk_[a-z2-7]{32}) ", node.stdout)
    assert key is not None
    assert f"rtmp://{node.addresses['rtmp']}/live" in node.stdout
    node.stop()
    assert key[1] not in node.stderr
    assert all(key[1].encode() not in path.read_bytes() for path in node.data_dir.iterdir())
    again = start_node()
    assert "sk_" not in again.stdout
    assert [entry["label"] for entry in again.cli_json("key", "list")["keys"]] == ["made at first start"]


def test_keys_of_a_running_node(node: Any) -> None:
    made = node.cli_json("key", "new", "--stream", "cam")
    assert any(key["id"] == made["id"] for key in node.cli_json("key", "list")["keys"])
    assert node.cli_json("key", "revoke", made["id"]) == {"revoked": made["id"]}
    one_line(node.cli("key", "revoke", made["id"], check=False), 1, "there is no stream key")


def test_admin_serves_page_metrics_and_api(node: Any) -> None:
    for path in ("/", "/metrics", "/api/v1/openapi.json", "/api/v1/config"):
        assert fetch(node.url(path, "admin"))[0] == 200
    status, body = fetch(node.url("/api/v1/nothing", "admin"))
    assert status == 404 and json.loads(body)["error"] == "not_found"
    assert fetch(node.url("/api/v1/keys", "admin"), "POST", Origin="https://evil.example")[0] == 403
    assert fetch(node.url("/api/v1/status", "admin"), Host="evil.example")[0] == 403


def test_events_arrive_and_do_not_delay_the_stop(start_node: Any) -> None:
    node = start_node()
    host, port = node.addresses["admin"].rsplit(":", 1)
    connection = HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/api/v1/events")
    answer = connection.getresponse()
    assert answer.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert answer.readline() == b"event: snapshot\n"
    assert json.loads(answer.readline().removeprefix(b"data: "))["status"]["state"] == "ready"
    began = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < EXIT_BUDGET_S
    connection.close()


def test_private_files_and_no_secret_in_the_log(start_node: Any) -> None:
    node = start_node()
    token = json.loads((node.data_dir / "node.json").read_bytes())["token"]
    key = node.new_key()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in node.data_dir.iterdir()}
    assert set(modes.values()) == {0o600} and "fwnode.db" in modes
    assert stat.S_IMODE(node.data_dir.stat().st_mode) == 0o700
    node.stop()
    assert key not in node.stdout + node.stderr and token not in node.stdout + node.stderr


def test_one_node_for_one_folder(node: Any) -> None:
    one_line(
        node.cli(
            "run",
            "--http",
            "127.0.0.1:0",
            "--rtmp",
            "off",
            "--mesh",
            "off",
            "--admin",
            "127.0.0.1:0",
            check=False,
        ),
        1,
        "in use",
    )


def test_an_address_that_is_taken_is_named(cli: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = {f"--{option}": "127.0.0.1:0" for option in ("http", "rtmp", "mesh", "admin")}
        for option in options:
            arguments = [part for pair in (options | {option: address}).items() for part in pair]
            one_line(cli("run", *arguments), 1, f"{option}: cannot listen on {address}")


def test_a_password_guards_an_admin_address_that_others_reach(start_node: Any, cli: Any) -> None:
    encoded = json.loads(cli("config", "password", "--json", text="hunter2\n").stdout)["admin_password_hash"]
    node = start_node("--admin", "0.0.0.0:0", environment={"FWNODE_ADMIN_PASSWORD_HASH": encoded})
    address = node.addresses["admin"].replace("0.0.0.0", "127.0.0.1")
    assert fetch(f"http://{address}/api/v1/status")[0] == 401
    assert node.cli_json("status")["state"] == "ready"
    one_line(cli("status", "--admin", address), 1, "FWNODE_ADMIN_PASSWORD")
    assert cli("status", "--admin", address, FWNODE_ADMIN_PASSWORD="hunter2").returncode == 0
    assert cli("status", "--admin", address, FWNODE_ADMIN_PASSWORD="hunter3").returncode == 1
    assert encoded not in Path(f"/proc/{node.process.pid}/cmdline").read_text()


def test_ctrl_c_stops_too(start_node: Any) -> None:
    assert start_node().stop(signal.SIGINT) == 0


def test_a_killed_node_leaves_a_folder_that_starts_again(start_node: Any) -> None:
    node = start_node()
    key = node.new_key("cam")
    node.stop(signal.SIGKILL)
    assert (node.data_dir / "node.json").exists()
    one_line(node.cli("status", check=False), 1, "no node answers at")
    assert node.cli_json("key", "new", "--stream", "offline")["stream"] == "offline"
    again = start_node()
    listed = again.cli_json("key", "list")["keys"]
    assert [entry["stream"] for entry in listed] == ["*", "cam", "offline"]
    assert key not in str(listed)


def ffmpeg_to(url: str, seconds: float = 60) -> "subprocess.Popen[str]":
    picture = [
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=160x90:r=25",
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "25",
    ]
    return subprocess.Popen(
        ["ffmpeg", "-v", "error", "-re", *picture, "-t", str(seconds), "-f", "flv", url],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def api(node: Any, path: str) -> Any:
    return json.loads(fetch(node.url(f"/api/v1{path}", "admin"))[1])


def live(node: Any, name: str) -> bool:
    return any(
        stream["name"] == name and stream["state"] == "live" for stream in api(node, "/streams")["streams"]
    )


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@needs_ffmpeg
def test_publishing_with_a_key_until_it_is_revoked(start_node: Any) -> None:
    node = start_node()
    made = node.cli_json("key", "new", "--stream", "cam")
    publisher = ffmpeg_to(node.rtmp_url(made["key"]))
    try:
        until(lambda: live(node, "cam"))
        stream = api(node, "/streams/cam")
        assert stream["source"]["key_id"] == made["id"] and stream["tracks"][0]["codec"] == "h264"
        row = node.cli("streams").stdout.splitlines()[1].split("\t")
        assert row[:2] == ["cam", "live"] and row[2].startswith("rtmp 127.0.0.1:")
        assert fetch(node.url("/live/cam/index.m3u8"))[1].startswith(b"#EXTM3U")
        node.cli("key", "revoke", made["id"])
        assert "revoked" in publisher.communicate(timeout=20)[1]
    finally:
        publisher.kill()
        publisher.communicate()
    until(lambda: not live(node, "cam"))
    assert made["key"] not in node.stderr


@needs_ffmpeg
def test_publishing_without_a_valid_key_is_refused_with_the_reason(node: Any) -> None:
    for name in ("live", "live?key=wrong", "sk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"):
        publisher = ffmpeg_to(node.rtmp_url(name), 5)
        _, said = publisher.communicate(timeout=30)
        assert publisher.returncode != 0 and "`fwnode key new`" in said
    assert api(node, "/streams") == {"streams": []}
    assert api(node, "/status")["publishers_refused"] >= 3


@needs_ffmpeg
def test_open_ingest_takes_any_publisher(start_node: Any) -> None:
    node = start_node("--set", "ingest.open=true")
    assert "Stream Key  any stream name" in node.stdout
    publisher = ffmpeg_to(node.rtmp_url("anything"))
    try:
        until(lambda: live(node, "anything"))
    finally:
        publisher.kill()
        publisher.communicate()


def test_the_demo_can_be_watched_and_its_viewer_gets_time_to_leave(start_node: Any) -> None:
    node = start_node("--demo", "--drain-s", "10")
    until(lambda: live(node, "demo"), 60)
    assert fetch(node.url("/healthz"))[0] == 200
    host, port = node.addresses["http"].rsplit(":", 1)
    viewer = HTTPConnection(host, int(port), timeout=10)
    viewer.request("GET", "/live/demo.ts")
    answer = viewer.getresponse()
    assert answer.read(1880)[0] == 0x47  # a transport stream's sync byte
    until(lambda: api(node, "/status")["viewers"] == 1)
    node.process.send_signal(signal.SIGTERM)
    until(lambda: fetch(node.url("/healthz"))[0] == 503)
    assert api(node, "/status")["state"] == "draining"
    with pytest.raises(OSError):  # nobody new may publish
        socket.create_connection(tuple(node.addresses["rtmp"].rsplit(":", 1)), 5).close()
    assert len(answer.read(100_000)) == 100_000
    began = time.monotonic()
    viewer.close()
    answer.close()
    assert node.process.wait(10) == 0
    assert time.monotonic() - began < EXIT_BUDGET_S


def test_a_second_signal_stops_at_once(start_node: Any) -> None:
    node = start_node("--demo", "--drain-s", "60")
    until(lambda: live(node, "demo"), 60)
    with urllib.request.urlopen(node.url("/live/demo.ts"), timeout=10) as answer:
        answer.read(188)
        node.process.send_signal(signal.SIGTERM)
        until(lambda: fetch(node.url("/healthz"))[0] == 503)
        assert node.stop() == 128 + signal.SIGTERM


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_https_with_certificate_files(start_node: Any, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
    node = start_node("--https", "127.0.0.1:0", "--https-cert", str(certificate), "--https-key", str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(f"https://{node.addresses['https']}/healthz", context=context) as answer:
        assert answer.status == 200
    broken = node.cli(
        "run", "--data-dir", str(tmp_path / "other"), "--https", "127.0.0.1:0", "--https-cert", str(key),
        "--https-key", str(key), "--http", "127.0.0.1:0", check=False,
    )  # fmt: skip
    one_line(broken, 1, f"https_cert = {key}, https_key = {key}: not usable together")
