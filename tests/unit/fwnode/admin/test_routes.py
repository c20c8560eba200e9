"""The OpenAPI document: what a client generator relies on."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fwnode.admin import routes
from fwnode.admin.routes import EVENT_TYPES, PREFIX, ROUTES, openapi
from fwnode.admin.service import Api

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(msgspec.json.encode(openapi()))


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def operations(document: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_top_level(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert set(document) <= {"openapi", "info", "servers", "paths", "components", "security", "tags"}
    assert document["info"]["title"] and document["info"]["version"]


def test_every_reference_resolves_and_every_schema_is_used(document: Any) -> None:
    referred = {part["$ref"] for part in walk(document) if "$ref" in part}
    defined = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert referred == defined


def test_operations_are_whole(document: Any) -> None:
    seen = set()
    for path, method, operation in operations(document):
        assert method in METHODS
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"])
        assert operation["operationId"] not in seen
        seen.add(operation["operationId"])
        assert operation["summary"].endswith(".")
        named = set(re.findall(r"{(\w+)}", path))
        parameters = operation.get("parameters", [])
        assert {parameter["name"] for parameter in parameters if parameter["in"] == "path"} == named
        assert all(parameter["required"] for parameter in parameters if parameter["in"] == "path")
        assert all(parameter["description"] for parameter in parameters if parameter["in"] == "query")
        assert any(status.startswith("2") for status in operation["responses"])
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[2-5]\d\d", status) and response["description"]
            assert ("content" in response) == (status != "204")


def test_security_names_its_schemes(document: Any) -> None:
    schemes = set(document["components"]["securitySchemes"])
    assert {name for option in document["security"] for name in option} == schemes


def test_every_route_is_documented_and_handled(document: Any) -> None:
    for route in ROUTES:
        assert document["paths"][PREFIX + route.path][route.method.lower()]["operationId"] == route.operation
        assert callable(getattr(Api, route.operation))
        handler = getattr(Api, route.operation).__annotations__
        assert handler["return"] is route.answer
        given = {*route.parameters, *route.query, *({"body"} if route.body else ())}
        assert given == set(handler) - {"return"}


def test_reading_has_no_side_effects_and_changes_do_not_use_get() -> None:
    assert {route.method for route in ROUTES if re.match("get|list", route.operation)} == {"GET"}
    assert not [
        route for route in ROUTES if route.method == "GET" and not re.match("get|list", route.operation)
    ]


def test_events_are_described(document: Any) -> None:
    described = document["paths"][f"{PREFIX}/events"]["get"]["responses"]["200"]["x-events"]
    assert set(described) == set(EVENT_TYPES)


def test_a_route_that_lacks_a_parameter_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = msgspec.structs.replace(ROUTES[0], path="/status/{odd}")
    monkeypatch.setattr(routes, "ROUTES", (odd,))
    assert openapi()["paths"][f"{PREFIX}/status/{{odd}}"]["get"]["parameters"][0]["name"] == "odd"
