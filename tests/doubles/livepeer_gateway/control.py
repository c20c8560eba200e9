"""The double's control port: JSON in, JSON out, for tests and people."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import h11
import trio

from livepeer_gateway.faults import FaultError
from livepeer_gateway.gateway import Gateway

if TYPE_CHECKING:
    from livepeer_gateway.server import GatewayServer

BODY_BYTES_MAX = 1_000_000


class Control:
    """Answers on the control port. A path is a command; its body, when it has one, is JSON."""

    def __init__(self, server: "GatewayServer", gateway: Gateway) -> None:
        self._server, self._gateway = server, gateway
        self._commands: dict[str, Callable[[Any], object]] = {
            "log": lambda _: gateway.journal.as_json(),
            "forget": lambda _: gateway.journal.entries.clear(),
            "faults": gateway.faults.replace,
            "script": self._script,
            "orchestrators": self._orchestrators,
            "latency": self._latency,
            "clock": self._clock,
            "sessions": self._sessions,
            "restart": lambda _: server.restart(),
        }

    def _script(self, verdicts: list[str]) -> None:
        self._gateway.script = list(verdicts)

    def _orchestrators(self, count: int) -> None:
        self._gateway.orchestrators = int(count)

    def _latency(self, seconds: float) -> None:
        self._gateway.latency_s = float(seconds)

    def _clock(self, seconds: float) -> None:
        self._gateway.clock_offset_s += float(seconds)
        self._gateway.sessions.expire(self._gateway.now())

    def _sessions(self, _: object) -> dict[str, object]:
        self._gateway.sessions.expire(self._gateway.now())
        return {
            session.manifest_id: {
                "url_id": session.url_id,
                "profiles": [profile.name for profile in session.profiles],
                "in_flight": session.in_flight,
                "idle_s": self._gateway.now() - session.last_used,
            }
            for session in self._gateway.sessions.sessions.values()
        }

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, one command."""
        connection = h11.Connection(h11.SERVER)
        command, body = "", bytearray()
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65536))
                elif isinstance(event, h11.Request):
                    command = event.target.decode("ascii", "replace").strip("/")
                elif isinstance(event, h11.Data) and len(body) < BODY_BYTES_MAX:
                    body += event.data
                else:
                    return
            status, answer = await self._answer(command, bytes(body))
            head = h11.Response(
                status_code=status,
                headers=[
                    ("Content-Type", "application/json"),
                    ("Content-Length", str(len(answer))),
                    ("Connection", "close"),
                ],
            )
            for sent in (head, h11.Data(data=answer), h11.EndOfMessage()):
                await stream.send_all(connection.send(sent) or b"")
        except (h11.ProtocolError, trio.BrokenResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, command: str, body: bytes) -> tuple[int, bytes]:
        try:
            value = json.loads(body) if body else None
            if command == "listen":
                await self._server.listen()
                return 200, b"null"
            if command == "refuse":
                await self._server.refuse_connections()
                return 200, b"null"
            if command not in self._commands:
                return 404, json.dumps({"commands": sorted([*self._commands, "listen", "refuse"])}).encode()
            return 200, json.dumps(self._commands[command](value)).encode()
        except (ValueError, TypeError, FaultError, OSError) as error:
            return 400, json.dumps({"error": str(error)}).encode()
