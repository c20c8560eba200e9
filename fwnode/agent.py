"""The life of one node: what starts in which order, how it drains, and with which exit code.

Start: lock the data folder, open the database, bind every address (nothing else can fail
after that), write the ready file, then serve. The control API's libraries are imported
while the public listeners serve already; its socket has been listening since the start.

Stop: the first SIGTERM, SIGINT or SIGHUP drains: /healthz says 503, new publishers are refused
and present ones asked to go elsewhere, RTMP's listener closes; HTTP's stays, as viewers of
HLS come with new connections. The node goes when nobody watches, or after `drain_s`.
A second signal stops at once.
"""

import errno
import gc
import importlib
import os
import random
import resource
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import structlog
import trio

import media.deliver
from fwnode import __version__, wiring
from fwnode.address import Address, parse_address
from fwnode.config import Config
from fwnode.demo.service import serve_demo
from fwnode.errors import FwnodeError, StoreError
from fwnode.network import Network
from fwnode.node import Node
from fwnode.observe import log
from fwnode.observe.journal import log_fault
from fwnode.peering.server import bind_mesh
from fwnode.promise.service import Keeping
from fwnode.setting import OFF, split_addresses
from fwnode.sharing.service import KeySharing
from fwnode.store import Database, DataFolder, NodeFile, write_whole
from fwnode.transcoding.service import serve_transcoding, write_usage
from fwnode.workers.lending import Lending
from fwnode.workers.service import serve_workers
from media.deliver.http.store import read_folder
from media.deliver.pages import HLS_SCRIPT
from media.deliver.poster.service import serve_posters
from media.net.reactor import Reactor
from media.net.server import bind
from media.transcode.service import serve_transcoder
from mesh.discovery.candidates import make_candidates
from mesh.discovery.probe import own_addresses
from mesh.discovery.store import FILE_NAME, PeersFile
from mesh.errors import MeshError
from mesh.identity.store import IdentityStore

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EXIT_STOPPED = 0
EXIT_CRASHED = 1
EXIT_SIGNAL = 128  # plus the signal's number, as a shell has it

DRAIN_POLL_S = 0.05
DEMO_WAIT_S = 3.0  # for a member to hear from the others whether one of them has a demo
GOODBYE_S = 0.1  # for the last words to reach the kernel
CERTIFICATE_S = 60.0  # between looks whether the certificate files were renewed
FINDINGS_S = 5.0  # between looks at what is wrong with publishers; the diagnosis itself runs all the time
KEY_USE_S = 60.0  # how often the last use of keys goes to disk; a crash loses at most this
TOKEN_BYTES = 32
READABLE_FILE = 0o644
ELSEWHERE = "192.0.2.1"  # TEST-NET-1 (RFC 5737): the route to it is the default route
CHECKOUT = Path(__file__).resolve().parent.parent
DESCRIPTORS_SPARE = 256  # files, children, the control API


def run_node(config: Config, ready_file: Path | None) -> int:
    """Run a node until it is told to stop. Returns the exit code; raises FwnodeError when it cannot start."""
    log.configure(config.log.level, config.log.format, time.monotonic)
    _raise_descriptor_limit(config)
    with _locked(DataFolder(Path(config.data_dir))) as folder, closing(Database(folder.path)) as database:
        first_key = "" if config.ingest.open else database.first_key()
        try:
            agent = Agent(config, folder, database)
        except MeshError as error:
            raise FwnodeError(str(error)) from None
        agent.bind()
        return trio.run(agent.run, ready_file, first_key)


class Agent:
    """One run of one node."""

    def __init__(self, config: Config, folder: DataFolder, database: Database) -> None:
        self._config = config
        self._folder = folder
        self._database = database
        self._reactor = Reactor(log_fault)
        self._mesh_socket: socket.socket | None = None
        network = Network(
            IdentityStore(folder.path),
            PeersFile(folder.path / FILE_NAME),
            name=config.name,
            program=f"fwnode {__version__}",
            unix_s=time.time,
            entropy=secrets.token_bytes,
            addresses=self._invite_addresses,
            turn=threading.Lock(),
        )
        self._services = wiring.compose(
            config,
            network,
            database.keyring(),
            self._reactor,
            started_at=time.monotonic(),
            unix_us=lambda: time.time_ns() // 1000,
            random=random.Random(secrets.randbits(64)),  # noqa: S311 - RTMP handshake filler, no secret
            player_files=_player_files(),
            kept=database.promise(),
        )
        self._node = self._services.node
        self._keeping = Keeping(self._node, database)
        self._sharing = KeySharing(self._node, database)
        if network.membership is not None and config.mesh != OFF:
            # Before the mesh runs: a publisher that comes back with this node brings another node's key.
            self._sharing.begin(network.membership, self._sharing.load(network.membership))
        self._admin_socket: socket.socket | None = None
        self._token = secrets.token_urlsafe(TOKEN_BYTES)

    def bind(self) -> None:
        """Listen on every address of the settings. Raises FwnodeError naming the one that cannot be had."""
        try:
            if self._config.https != OFF:
                self._load_certificate()
            for option in wiring.PUBLIC_LISTENERS:
                if self._config.value(option) != OFF:
                    with _bindable(option):
                        self._services.listen(option)
            if self._config.mesh != OFF:
                with _bindable("mesh"):
                    self._mesh_socket = bind_mesh(self._config.mesh)
            with _bindable("admin"):
                self._admin_socket = bind(self._config.admin)
        except FwnodeError:
            self._services.close_listeners()
            raise
        if self._mesh_socket is not None:
            self._node.mesh_address = str(Address(*self._mesh_socket.getsockname()[:2]))
        self._node.admin_address = str(Address(*self._admin_socket.getsockname()[:2]))

    def _invite_addresses(self) -> list[str]:
        """Where other nodes can dial this one, as far as it knows while no mesh runs."""
        if not self._node.mesh_address:
            return []
        bound = parse_address(self._node.mesh_address)
        own = own_addresses() if bound.wildcard else [bound.host]
        return make_candidates(bound.port, own, split_addresses(self._config.announce))

    def _load_certificate(self) -> None:
        try:
            self._services.load_certificate()
        except OSError as error:
            files = f"https_cert = {self._config.https_cert}, https_key = {self._config.https_key}"
            raise FwnodeError(f"--https: {files}: not usable together: {error.strerror or error}") from None

    async def run(self, ready_file: Path | None, first_key: str) -> int:
        """Serve until told to stop; returns the exit code."""
        code = EXIT_CRASHED
        failures: list[FwnodeError] = []
        try:
            with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._reactor.run)
                    self._keeping.look()  # a drain or a pause of before is in force before anybody comes
                    gc.freeze()  # what start-up made lives as long as the node: never look at it again
                    sys.stdout.write(greeting(self._node, first_key, _outward_host()))
                    sys.stdout.flush()
                    await trio.to_thread.run_sync(self._announce, ready_file)
                    nursery.start_soon(self._serve_admin)
                    nursery.start_soon(self._take_part)
                    nursery.start_soon(self._keep_key_use)
                    nursery.start_soon(self._keeping.run)
                    nursery.start_soon(self._report_findings)
                    nursery.start_soon(self._renew_certificate)
                    nursery.start_soon(
                        serve_posters, self._node.posters, self._reactor, self._services.journal.poster_failed
                    )
                    if self._services.lending is not None:
                        nursery.start_soon(self._deliver_beside, self._services.lending)
                    if self._node.transcoding is not None:
                        nursery.start_soon(
                            serve_transcoding,
                            self._node,
                            self._node.transcoding,
                            self._database,
                            self._folder.path,
                        )
                    if self._services.transcoder.enabled:
                        nursery.start_soon(
                            serve_transcoder,
                            self._services.transcoder,
                            self._reactor,
                            self._services.journal.transcoder_lost,
                        )
                    if self._config.demo:
                        nursery.start_soon(self._serve_demo)
                    code = await self._until_stopped(signals)
                    nursery.cancel_scope.cancel()
        except* FwnodeError as group:
            failures = list(_leaves(group))
        except* Exception as group:
            structlog.get_logger().error("the node crashed", exc_info=group)
        await self._write_key_use()
        await self._keeping.save()
        if self._node.transcoding is not None:
            await write_usage(self._node, self._node.transcoding.ledger, self._database)
        if failures:
            raise failures[0]
        return code

    def _announce(self, ready_file: Path | None) -> None:
        where = parse_address(self._node.admin_address)
        reachable = Address("127.0.0.1" if where.host == "0.0.0.0" else where.host, where.port)
        self._folder.announce(NodeFile(os.getpid(), str(reachable), self._token))
        if ready_file is not None:
            write_whole(ready_file, msgspec.json.encode(self._node.addresses), READABLE_FILE)

    async def _serve_admin(self) -> None:
        # Starlette, Hypercorn and the metrics library take 0.4 s to import: not in the way of viewers.
        server = await trio.to_thread.run_sync(importlib.import_module, "fwnode.admin.server")
        assert self._admin_socket is not None
        await server.serve_admin(self._node, self._database, self._admin_socket, self._token, self._keeping)

    async def _take_part(self) -> None:
        """Be a member of the network that this node is in, if it is in one."""
        if self._mesh_socket is not None:
            # The mesh's libraries take 0.3 s to import, and a node alone has no use for them.
            await _membership(self._node.network)
            peering = await trio.to_thread.run_sync(importlib.import_module, "fwnode.peering.service")
            await peering.Peering(self._node, self._sharing).run(self._mesh_socket)

    async def _serve_demo(self) -> None:
        """One node of a network publishes the demo; the others have it from there, and would take over."""
        if self._mesh_socket is not None and self._node.network.membership is not None:
            await trio.sleep(DEMO_WAIT_S)
        await serve_demo(self._node.streams, self._reactor, elsewhere=self._node.is_published_elsewhere)

    async def _deliver_beside(self, lending: Lending) -> None:
        await serve_workers(
            self._node.crew,
            lending,
            self._reactor,
            self._services.ports,
            self._services.start,
            own_pid=os.getpid(),
        )

    async def _until_stopped(self, signals: AsyncIterator[int]) -> int:
        """Wait for a signal, then drain; returns the exit code."""
        first = signal.Signals(await anext(signals))
        structlog.get_logger().info("draining", signal=first.name, drain_s=self._config.drain_s)
        self._services.drain()
        async with trio.open_nursery() as nursery:
            code = EXIT_STOPPED

            async def stop_now() -> None:
                nonlocal code
                code = EXIT_SIGNAL + await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_now)
            with trio.move_on_after(self._config.drain_s):
                while self._services.busy:  # noqa: ASYNC110 - viewers leave in many ways, and none tells
                    await trio.sleep(DRAIN_POLL_S)
            if self._node.connections:
                self._services.stop()
                await trio.sleep(GOODBYE_S)
            nursery.cancel_scope.cancel()
        return code

    async def _keep_key_use(self) -> None:
        while True:
            await trio.sleep(KEY_USE_S)
            await self._write_key_use()

    async def _report_findings(self) -> None:
        while True:
            await trio.sleep(FINDINGS_S)
            self._services.journal.report_findings(self._reactor.now())

    async def _renew_certificate(self) -> None:
        """Serve a certificate that was renewed on disk; a broken one leaves the old in force."""
        tls, files = self._services.tls, (Path(self._config.https_cert), Path(self._config.https_key))
        if tls is None:
            return
        seen = await trio.to_thread.run_sync(_modified, files)
        while True:
            await trio.sleep(CERTIFICATE_S)
            found = await trio.to_thread.run_sync(_modified, files)
            if found != seen:
                seen = found
                try:
                    await trio.to_thread.run_sync(tls.reload)
                    structlog.get_logger().info("certificate renewed", file=str(files[0]))
                    if self._services.lending is not None:
                        self._services.lending.renew()
                except OSError as error:
                    structlog.get_logger().error("certificate not renewed", reason=str(error))

    async def _write_key_use(self) -> None:
        used = self._node.keyring.take_used()
        if used:
            try:
                await trio.to_thread.run_sync(self._database.note_used, used)
            except StoreError as error:
                # Publishing goes on with a full disk; only "last used" is out of date.
                structlog.get_logger().warning("key use not kept", reason=str(error))


async def _membership(network: Network) -> None:
    """Wait until this node is in a network."""
    entered = trio.Event()
    network.subscribe(entered.set)
    if network.membership is None:
        await entered.wait()


def greeting(node: Node, first_key: str, outward_host: str) -> str:
    """What is printed when the node is ready: bound addresses, where to watch and to point OBS."""
    addresses = {option: parse_address(text) for option, text in node.addresses.items()}

    def reachable(option: str) -> Address:
        address = addresses[option]
        return Address(outward_host, address.port) if address.wildcard else address

    lines = [
        f"fwnode {__version__}, node {node.config.name!r}, is ready.",
        "",
        "  listening   " + ", ".join(f"{option} {address}" for option, address in node.addresses.items()),
        f"  watch       http://{reachable('http')}/",
    ]
    if "https" in addresses:
        lines.append(f"              https://{reachable('https')}/")
    if "rtmp" in addresses:
        lines.append(f"  OBS         Server      rtmp://{reachable('rtmp')}/live")
        lines.append(f"              Stream Key  {_key_line(node, first_key)}")
    lines += [f"  dashboard   http://{addresses['admin']}/", "", ""]
    return "\n".join(lines)


def _key_line(node: Node, first_key: str) -> str:
    if first_key:
        return f"{first_key}  (shown this once; `fwnode key new` makes another)"
    if node.config.ingest.open:
        return "any stream name: ingest.open lets everybody publish"
    return "one of yours, or make one with `fwnode key new`"


def _player_files() -> dict[str, bytes]:
    """The player's own files, with hls.js where `scripts/fetch-player` has put it."""
    files = read_folder(Path(media.deliver.__file__).parent / "player")
    fetched = Path(os.environ.get("FWNODE_PLAYER_DIR") or CHECKOUT / ".cache" / "player") / HLS_SCRIPT
    if fetched.is_file():
        files[HLS_SCRIPT] = fetched.read_bytes()
    return files


def _outward_host() -> str:
    """This machine's address on its default route, or localhost; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ELSEWHERE, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "localhost"


def _modified(files: tuple[Path, ...]) -> list[int]:
    try:
        return [file.stat().st_mtime_ns for file in files]
    except OSError:
        return []  # in the middle of being replaced


@contextmanager
def _locked(folder: DataFolder) -> Iterator[DataFolder]:
    folder.lock()
    try:
        yield folder
    finally:
        folder.withdraw()
        folder.unlock()


@contextmanager
def _bindable(option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = {errno.EADDRINUSE: "another program has it: stop that one or choose another port"}
        advice[errno.EACCES] = "ports below 1024 need root or CAP_NET_BIND_SERVICE: choose another port"
        advice[errno.EADDRNOTAVAIL] = "this machine has no such address"
        text = advice.get(error.errno or 0, "")
        raise FwnodeError(f"--{option}: {error.strerror or error}{f': {text}' if text else ''}") from None


def _raise_descriptor_limit(config: Config) -> None:
    """A connection is a descriptor; the usual soft limit of 1024 is for select(2), which is not used here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.limits.connections * len(wiring.PUBLIC_LISTENERS) + DESCRIPTORS_SPARE
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _leaves(group: BaseExceptionGroup[FwnodeError]) -> Iterator[FwnodeError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
