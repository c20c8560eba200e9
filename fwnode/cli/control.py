"""Finds the running node and speaks to its control API."""

import base64
import http.client
import os
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from fwnode.address import parse_address
from fwnode.cli import settings
from fwnode.errors import NodeError, UsageError
from fwnode.store import DataFolder

ANSWER_S = 10.0  # the API answers from memory; a stalled disk under a key change is the slowest case

Admin = Annotated[
    str | None,
    typer.Option(
        "--admin",
        metavar="ADDR",
        help="Control address of the node, in place of the one that the data folder records. "
        "Its password is taken from the environment variable FWNODE_ADMIN_PASSWORD.",
    ),
]


class NotRunning(NodeError):
    """No node answers for this data folder."""


class Control:
    """One node's control API."""

    def __init__(self, address: str, authorization: str, origin: str) -> None:
        self.address = address
        self._authorization = authorization
        self._origin = origin  # how the address was found, for the sentence that says it is dead

    def get(self, path: str) -> Any:
        """The decoded answer of a GET. Raises NodeError."""
        return self.request("GET", path)

    def request(self, method: str, path: str, body: object = None, *, answer_s: float = ANSWER_S) -> Any:
        """The decoded answer, None when it has no body; it may take so long. Raises NotRunning, NodeError."""
        where = parse_address(self.address)
        connection = http.client.HTTPConnection(where.host, where.port, timeout=answer_s)
        headers = {"Accept": "application/json"}
        if self._authorization:
            headers["Authorization"] = self._authorization
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            data = None if body is None else msgspec.json.encode(body)
            connection.request(method, f"/api/v1{path}", data, headers)
            answer = connection.getresponse()
            return _decoded(answer.status, answer.read())
        except ConnectionRefusedError:
            raise NotRunning(
                f"no node answers at {self.address} ({self._origin}): start it with `fwnode run`"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise NodeError(
                f"the node at {self.address} does not answer: {error or type(error).__name__}"
            ) from None
        finally:
            connection.close()


def find(data_dir: str | None, admin: str | None) -> Control:
    """The node of `--admin`, or else of the data folder. Raises NotRunning when none is announced."""
    if admin is not None:
        try:
            parse_address(admin)
        except ValueError as error:
            raise UsageError(f"--admin: {error}") from None
        return Control(admin, _password(), "from --admin")
    folder = settings.data_folder(data_dir)
    node = DataFolder(folder).announced()
    if node is None:
        raise NotRunning(
            f"no node is running on {folder}: start it with `fwnode run`, or give --data-dir or --admin"
        )
    return Control(node.admin, f"Bearer {node.token}", f"recorded in {folder} by process {node.pid}")


def path_of(*parts: str) -> str:
    """A path of the API from parts that may hold anything."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _password() -> str:
    password = os.environ.get("FWNODE_ADMIN_PASSWORD", "")
    return "Basic " + base64.b64encode(f"admin:{password}".encode()).decode() if password else ""


def _decoded(status: int, data: bytes) -> Any:
    try:
        answer = msgspec.json.decode(data) if data else None
    except msgspec.DecodeError:
        raise NodeError(
            f"the node answered {status} with something else than JSON: is --admin right?"
        ) from None
    if status == 401:
        raise NodeError("the node wants a password: set the environment variable FWNODE_ADMIN_PASSWORD")
    if status == 400:
        raise UsageError(_message(status, answer))
    if status >= 400:
        raise NodeError(_message(status, answer))
    return answer


def _message(status: int, answer: Any) -> str:
    return str(answer["message"]) if isinstance(answer, dict) and "message" in answer else f"error {status}"
