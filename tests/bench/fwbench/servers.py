"""The programs measured: the node, and nginx with its RTMP module beside it. Pinned to the server's core."""

import json
import shutil
import socket
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fwbench.machine import Program

ROOT = Path(__file__).resolve().parents[3]
START_S = 30.0
_RTMP_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_rtmp_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_rtmp_module.so"),
)
_POLL_S = 0.002


class ServerError(Exception):
    """A program did not start; the text has the end of its log."""


class Server:
    """A running program with its addresses; stops at the end of its `with`."""

    host = "127.0.0.1"
    http_port = 0
    rtmp_port = 0
    profile: Path | None = None  # where samples of its stacks go while it is measured

    def __init__(self, folder: Path, command: Sequence[str], core: int, name: str) -> None:
        self.folder = folder
        self.started = time.monotonic()
        self.program = Program(
            command, core, log=folder / f"{name}.log", env={"FWNODE_DATA_DIR": str(folder)}
        )
        self._name = name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.program.stop()

    def get(self, path: str, timeout_s: float = 10.0) -> bytes:
        url = f"http://{self.host}:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            data: bytes = answer.read()
        return data

    def _await(self, ready: "Sequence[Path | int]") -> float:
        """Until every file is there and every port answers; seconds since the start."""
        for thing in ready:
            while not (_listens(thing) if isinstance(thing, int) else thing.exists()):
                if not self.program.alive() or time.monotonic() > self.started + START_S:
                    log = self.program.log_tail()
                    self.program.stop()
                    raise ServerError(f"{self._name} did not start: {log[-400:]}")
                time.sleep(_POLL_S)
        return time.monotonic() - self.started


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


class Node(Server):
    """`fwnode run` on free ports, open to any publisher."""

    def __init__(self, folder: Path, core: int, *options: str) -> None:
        (folder / "fwnode.toml").write_text("[ingest]\nopen = true\n")
        ready = folder / "ready.json"
        ready.unlink(missing_ok=True)
        super().__init__(folder, self.command(folder, ready, *options), core, "fwnode")
        self.start_s = self._await([ready])
        addresses = json.loads(ready.read_text())
        self.http_port = int(addresses["http"].rpartition(":")[2])
        self.rtmp_port = int(addresses["rtmp"].rpartition(":")[2])
        self.mesh_address = str(addresses["mesh"])

    @staticmethod
    def command(folder: Path, ready: Path, *options: str) -> list[str]:
        binds = [f"--{name}=127.0.0.1:0" for name in ("http", "rtmp", "mesh", "admin")]
        places = ["--data-dir", str(folder), "--ready-file", str(ready)]
        return [sys.executable, "-m", "fwnode", "run", *places, *binds, *options]


_NGINX = """daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{module}
events {{ worker_connections 16384; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  types {{ application/vnd.apple.mpegurl m3u8; video/iso.segment m4s; }}
  server {{ listen 127.0.0.1:{http}; root {folder}/www; }}
}}
{rtmp}
"""
_NGINX_RTMP = """rtmp {{
  server {{
    listen 127.0.0.1:{port};
    chunk_size 4096;
    application live {{ live on; }}
    application hls {{ live on; hls on; hls_path {folder}/www/hls; hls_fragment 1s; }}
  }}
}}
"""


class Nginx(Server):
    """One nginx worker that serves `www/` of its folder and, where its module is there, RTMP."""

    def __init__(self, folder: Path, core: int) -> None:
        self.www = folder / "www"
        (self.www / "hls").mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self.www.chmod(0o777)
        (self.www / "hls").chmod(0o777)
        self.http_port, self.rtmp_port = _free_port(), _free_port()
        module = rtmp_module()
        rtmp = _NGINX_RTMP.format(port=self.rtmp_port, folder=folder) if module else ""
        load = f"load_module {module};" if module else ""
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, http=self.http_port, module=load, rtmp=rtmp))
        super().__init__(folder, ["nginx", "-p", str(folder), "-c", str(config)], core, "nginx")
        self.start_s = self._await([self.http_port])

    def publish(self, path: str, data: bytes) -> None:
        """Put a file below `www/`."""
        target = self.www / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def rtmp_module() -> Path | None:
    return next((path for path in _RTMP_MODULES if path.exists()), None)


def missing(*programs: str) -> str:
    """Why a row cannot run; empty when everything is there."""
    absent = [name for name in programs if name != "nginx-rtmp" and shutil.which(name) is None]
    if "nginx-rtmp" in programs and rtmp_module() is None:
        absent.append("nginx's RTMP module (libnginx-mod-rtmp)")
    return f"not installed: {', '.join(absent)}" if absent else ""


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
