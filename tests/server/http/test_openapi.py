"""The OpenAPI document is sound, tells every route, and what is answered fits it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from starlette.routing import Route
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.chat.fields import FIELDS
from refusal_server.http.openapi import PATH, document
from tests.server.fixtures.client_site import HELLO, ClientSite
from tests.server.fixtures.ops import BEARER, Ops

CHAT = "/v1/chat/completions"


@pytest.fixture
def site(tmp_path: Path) -> ClientSite:
    return ClientSite(tmp_path)


@pytest.fixture
def told(site: ClientSite) -> dict[str, Any]:
    answer = site.http.get(PATH)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def validator(told: dict[str, Any], name: str) -> Draft202012Validator:
    """A validator of one schema; references are to places of the whole document."""
    return Draft202012Validator({**told, "$ref": f"#/components/schemas/{name}"})


def references(content: Any) -> set[str]:
    """Every reference in a document."""
    if isinstance(content, dict):
        own = {content["$ref"]} if isinstance(content.get("$ref"), str) else set()
        return own.union(*map(references, content.values()))
    return set[str]().union(*map(references, content)) if isinstance(content, list) else set()


def test_every_schema_is_one_and_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    assert told["openapi"].startswith("3.1")
    schemas = told["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    known = {f"#/components/schemas/{name}" for name in schemas}
    assert references(told) <= known


def test_every_route_of_a_port_is_told_and_no_other(site: ClientSite, tmp_path: Path) -> None:
    folder = tmp_path / "ops"
    folder.mkdir()
    ops = Ops(folder)
    told = ops.client.get(PATH, headers=BEARER).json()
    for app, found in ((site.http.app, site.http.get(PATH).json()), (ops.client.app, told)):
        routes = {
            (route.path.replace(":path", "").rstrip("/"), method.lower())
            for route in app.routes  # type: ignore[attr-defined]
            if isinstance(route, Route)
            for method in route.methods or ()
            if method != "HEAD"
        }
        written = {
            (path, method)
            for path, item in found["paths"].items()
            for method in item.keys() - {"parameters"}
        }
        assert written == routes


def test_it_needs_the_key_where_others_do(tmp_path: Path) -> None:
    assert Ops(tmp_path).anonymous.get(PATH).status_code == 401


def test_fields_are_those_that_the_server_takes(told: dict[str, Any]) -> None:
    request = told["components"]["schemas"]["ChatRequest"]
    refused = {name for name, field in FIELDS.items() if field.kind in ("server", "unsupported")}
    assert refused and not refused & request["properties"].keys()
    assert request["properties"].keys() == FIELDS.keys() - refused
    known = ChatCompletionRequest.model_fields
    described = [name for name in request["properties"] if name in known]
    assert len(described) > 40


@pytest.mark.parametrize(
    ("body", "fits"),
    [
        ({"messages": HELLO}, True),
        ({"messages": HELLO, "steering": {"policy": "static", "report": True}}, True),
        ({"messages": HELLO, "steering": {"strenght": 1}}, False),
        ({"messages": HELLO, "steering": {"strength": -1}}, False),
        ({"messages": HELLO, "priority": 1}, False),
        ({"temperature": 0}, False),
    ],
)
def test_a_request_fits_where_the_server_takes_it(
    told: dict[str, Any], site: ClientSite, body: dict[str, Any], fits: bool
) -> None:
    assert validator(told, "ChatRequest").is_valid(body) == fits
    assert (site.send(body).status_code == 200) == fits


def test_answers_and_errors_fit(told: dict[str, Any], site: ClientSite) -> None:
    answer = site.chat(steering={"report": True})
    validator(told, "ChatAnswer").validate(answer.json())
    validator(told, "Models").validate(site.http.get("/v1/models").json())
    validator(told, "Error").validate(site.chat(steering={"policy": "none"}).json())
    broken = {**answer.json(), "steering": {"policy": "static"}}
    assert not validator(told, "ChatAnswer").is_valid(broken)


def test_the_document_of_no_routes_is_empty() -> None:
    assert document([])["paths"] == {}
    json.dumps(document([CHAT]))
