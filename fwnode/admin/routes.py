"""The one table of the control API: the server's routes and the OpenAPI document both come from it. Pure."""

import re
from typing import Any

import msgspec

from fwnode import __version__
from fwnode.admin import views
from fwnode.promise.model import PromiseView
from fwnode.replication.model import TreeList
from fwnode.steering.model import ExplainView, SteeringView
from mesh.node.model import MeshStatus, SecondOpinion
from mesh.node.speed.model import SpeedResult

PREFIX = "/api/v1"
EVENT_TYPES: dict[str, type[msgspec.Struct]] = {
    "snapshot": views.Snapshot,
    "stream": views.StreamEvent,
    "finding": views.FindingEvent,
    "dropped": views.DroppedEvent,
}


class Route(msgspec.Struct, frozen=True):
    """One operation. `operation` is also the name of its handler in fwnode.admin.service.Api."""

    method: str
    path: str  # below PREFIX, parameters in braces
    operation: str
    summary: str
    answer: type[msgspec.Struct] | None  # None: no body
    status: int = 200
    body: type[msgspec.Struct] | None = None
    errors: dict[int, str] = {}
    query: dict[str, str] = {}  # fields of the query and what they mean; all are texts, and none is needed

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters."""
        return re.findall(r"{(\w+)}", self.path)


NO_STREAM = {404: "There is no stream of that name."}
NO_KEY = {404: "There is no key of that id."}
FOREIGN_KEY = {409: "It was made elsewhere and this node may not revoke it, or several nodes have that id."}
STORAGE = {503: "The data folder cannot be written; nothing was changed."}
HELD = {400: "The body cannot be used."} | STORAGE
REFUSED = {400: "The body cannot be used.", 409: "The network's rules or this node's place in it forbid it."}

ROUTES = (
    Route("GET", "/status", "get_status", "The node's state and counters.", views.NodeStatus),
    Route("GET", "/streams", "list_streams", "Every stream.", views.StreamList),
    Route("GET", "/streams/{name}", "get_stream", "One stream.", views.StreamView, errors=NO_STREAM),
    Route(
        "GET", "/tree", "get_tree", "Which node takes which stream from whom, in the whole network.", TreeList
    ),
    Route(
        "GET",
        "/replication",
        "get_replication",
        "Streams given to other nodes and taken from them.",
        views.ReplicationView,
    ),
    Route(
        "DELETE",
        "/streams/{name}",
        "stop_stream",
        "Disconnect the publisher and end the stream.",
        None,
        204,
        errors=NO_STREAM | {409: "Nobody publishes it now."},
    ),
    Route(
        "GET",
        "/keys",
        "list_keys",
        "Every stream key that is good here, without what would let anybody publish.",
        views.KeyList,
    ),
    Route(
        "POST",
        "/keys",
        "make_key",
        "Make a stream key; the only answer that has the key itself.",
        views.NewKey,
        201,
        views.KeyRequest,
        {400: "The pattern or label cannot be used."} | STORAGE,
    ),
    Route(
        "DELETE",
        "/keys/{key_id}",
        "revoke_key",
        "Revoke a stream key, by its id or id@node, and disconnect who publishes with it.",
        None,
        204,
        errors=NO_KEY | FOREIGN_KEY | STORAGE,
    ),
    Route("GET", "/network", "get_network", "The network as this node sees it.", MeshStatus),
    Route("GET", "/peers", "list_peers", "Every known node of the network, this one first.", views.PeerList),
    Route(
        "POST",
        "/peers/{node}/test",
        "test_peer",
        "Have a node send pseudo-random bytes, for a minute at most, and tell how they came.",
        SpeedResult,
        body=views.SpeedRequest,
        errors=REFUSED | {503: "The node cannot be reached, or tests run already."},
    ),
    Route(
        "POST",
        "/network/invites",
        "make_invite",
        "Make an invite, and the network with it when the node is in none.",
        views.NewInvite,
        201,
        views.InviteRequest,
        REFUSED | STORAGE,
    ),
    Route(
        "POST",
        "/network/join",
        "join_network",
        "Become a member of a network by an invite.",
        views.JoinedView,
        200,
        views.JoinRequest,
        REFUSED | STORAGE,
    ),
    Route(
        "POST",
        "/network/second-opinion",
        "ask_second_opinion",
        "Have pystun3 look at the router by way of two public members; takes some seconds.",
        SecondOpinion,
        errors={503: "There is nobody to ask, or nothing was found out."},
    ),
    Route(
        "DELETE",
        "/network",
        "leave_network",
        "Leave the network; the node's key stays.",
        None,
        204,
        errors={409: "The node is in no network."} | STORAGE,
    ),
    Route(
        "POST",
        "/network/revocations",
        "revoke_node",
        "Expel a node for ever; only on a node with the owner key.",
        views.RevokedNode,
        201,
        views.RevocationRequest,
        REFUSED | STORAGE,
    ),
    Route(
        "POST",
        "/network/owner-export",
        "export_owner",
        "The network's owner key as one encrypted line.",
        views.OwnerExport,
        200,
        views.OwnerExportRequest,
        REFUSED | {503: "There is no memory to encrypt it."},
    ),
    Route(
        "POST",
        "/network/owner-import",
        "import_owner",
        "Take an exported owner key, and be a member of its network.",
        views.OwnedNetwork,
        200,
        views.OwnerImportRequest,
        REFUSED | STORAGE,
    ),
    Route("GET", "/steering", "get_steering", "How viewers are sent to nodes, with counts.", SteeringView),
    Route(
        "GET",
        "/explain/{stream}",
        "get_choice",
        "Which node a viewer is sent to, with every candidate and every term; nothing is reserved for it.",
        ExplainView,
        errors=NO_STREAM | {400: "The address or the protocol cannot be used."},
        query={
            "address": "The viewer's address, IPv4 or IPv6.",
            "protocol": "What it needs: http, https, rtmp or rtmps; http when it is left out.",
        },
    ),
    Route(
        "GET",
        "/promise",
        "get_promise",
        "What the owner promised, what of it is used, and whether anybody new is let in.",
        PromiseView,
    ),
    Route(
        "POST",
        "/promise/drain",
        "drain_node",
        "Let nobody new in, have who is here go elsewhere; again: with another end. Lasts over a restart.",
        PromiseView,
        body=views.DrainRequest,
        errors=HELD,
    ),
    Route(
        "POST",
        "/promise/pause",
        "pause_node",
        "Let no viewers and nodes in that are new; who is here stays. Lasts over a restart.",
        PromiseView,
        body=views.PauseRequest,
        errors=HELD,
    ),
    Route("POST", "/promise/resume", "resume_node", "End drain and pause.", PromiseView, errors=STORAGE),
    Route("GET", "/config", "get_config", "Every setting in force; secrets are masked.", views.ConfigView),
)
EVERY_ERROR = {
    401: "The password is missing or wrong.",
    403: "The Host or Origin header is not this node's.",
}
EVENTS_SUMMARY = (
    "Server-sent events: a snapshot at once and every 2 s, and what happens in between. "
    "A client that reads too slowly loses the oldest events and is told how many."
)


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types = {t for route in ROUTES for t in (route.answer, route.body) if t}
    types |= {views.ApiError, *EVENT_TYPES.values()}
    ordered = sorted(types, key=lambda struct: struct.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route)
    paths[f"{PREFIX}/events"] = {"get": _events_operation()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fwnode control API",
            "version": __version__,
            "license": {"name": "Unlicense", "identifier": "Unlicense"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "password": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{}, {"password": []}, {"token": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "responses": {
            str(route.status): {"description": "Done."}
            | ({"content": _json(route.answer)} if route.answer else {})
        },
    }
    for status, meaning in sorted((route.errors | EVERY_ERROR).items()):
        operation["responses"][str(status)] = {"description": meaning, "content": _json(views.ApiError)}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in route.parameters
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in route.query.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"required": True, "content": _json(route.body)}
    return operation


def _events_operation() -> dict[str, Any]:
    data = {
        kind: {"$ref": f"#/components/schemas/{struct.__name__}"}
        for kind, struct in sorted(EVENT_TYPES.items())
    }
    described = "; ".join(f"`{kind}` carries {struct.__name__}" for kind, struct in EVENT_TYPES.items())
    return {
        "operationId": "follow_events",
        "summary": EVENTS_SUMMARY,
        "responses": {
            "200": {
                "description": f"Events: {described}.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "x-events": data,
            },
            "503": {"description": "Too many clients follow already.", "content": _json(views.ApiError)},
        },
    }


def _json(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{struct.__name__}"}}}
