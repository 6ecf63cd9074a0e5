"""What ordinary clients send and expect beside chat: models, health, browsers, other routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from refusal_server.run.app import build_app
from refusal_server.settings import Settings
from tests.server.fixtures.ops import Ops

PAGE = "http://localhost:3000"
ASKED = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.fixture
def ops(tmp_path: Path) -> Ops:
    return Ops(tmp_path)


def client(ops: Ops, **settings: Any) -> TestClient:
    return TestClient(build_app(ops.service, Settings(**settings)))


def test_a_model_is_retrieved_by_its_name(ops: Ops) -> None:
    site = client(ops)
    card = site.get("/v1/models").json()["data"][0]
    assert site.get(f"/v1/models/{card['id']}").json() == card
    for name in ("nope", "a/b", "..%2Fadmin", ""):
        missing = site.get(f"/v1/models/{name}x")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/version"])
def test_probes_may_ask_for_the_head_alone(ops: Ops, path: str) -> None:
    head = client(ops).head(path)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/responses", "/v1/responses/abc", "/v1/embeddings"]
)
def test_routes_that_are_not_served_name_the_one_that_is(ops: Ops, path: str) -> None:
    missing = client(ops).post(path, json={})
    assert missing.status_code == 404
    assert "/v1/chat/completions" in missing.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "gzip, identity"])
def test_a_compressed_body_is_refused_with_its_reason(ops: Ops, coding: str) -> None:
    headers = {"content-encoding": coding, "content-type": "application/json"}
    refused = client(ops).post("/v1/chat/completions", content=b"x", headers=headers)
    assert refused.status_code == 415
    assert "Content-Encoding" in refused.json()["error"]["message"]


def test_pages_of_other_origins_are_let_in_only_where_they_are_listed(ops: Ops) -> None:
    closed = client(ops).options("/v1/chat/completions", headers=ASKED)
    assert "access-control-allow-origin" not in closed.headers
    site = client(ops, cors_origins=(PAGE,))
    preflight = site.options("/v1/chat/completions", headers=ASKED)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PAGE
    answer = site.get("/v1/models", headers={"origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert {"x-steering", "x-request-id"} <= {name.strip() for name in exposed.split(",")}
    other = site.options("/v1/chat/completions", headers=ASKED | {"origin": "http://evil.example"})
    assert other.headers.get("access-control-allow-origin") != "http://evil.example"
