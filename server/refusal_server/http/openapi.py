"""The OpenAPI document of a port: its routes, what they take and what they answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from refusal_server import __version__
from refusal_server.errors import STEERING_STATUSES
from refusal_server.http.openapi_schemas import Schema, ref, schemas

PATH = "/openapi.json"
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class _Operation:
    """One route: ``takes`` and ``answers`` are names of schemas, ``None`` for any object."""

    method: str
    summary: str
    takes: str | None = None
    answers: str | None = None
    open: bool = False
    kind: str = _JSON


_OPERATIONS: Mapping[str, tuple[_Operation, ...]] = {
    "/v1/chat/completions": (
        _Operation(
            "post", "Answer a chat, whole or streamed, steered.", "ChatRequest", "ChatAnswer"
        ),
    ),
    "/v1/moderations": (
        _Operation(
            "post",
            "The risk of texts and media, under the caller's policy.",
            "ModerationRequest",
            "ModerationAnswer",
        ),
    ),
    "/v1/models": (_Operation("get", "The served models.", answers="Models"),),
    "/v1/models/{name:path}": (_Operation("get", "One served model.", answers="Model"),),
    PATH: (_Operation("get", "This document."),),
    "/health": (_Operation("get", "200 while the server takes work.", open=True),),
    "/live": (_Operation("get", "200 while the process lives.", open=True),),
    "/ready": (_Operation("get", "200 while it takes work, else 503 with the reason.", open=True),),
    "/version": (_Operation("get", "Versions of server, vLLM and policy.", open=True),),
    "/metrics": (
        _Operation(
            "get", "Prometheus' text or OpenMetrics.", open=True, kind="text/plain; version=1.0.0"
        ),
    ),
    "/admin/policy": (
        _Operation("get", "The policy in force, with its text and history."),
        _Operation("put", "Bring a policy into force, or with dry_run say what that would do."),
    ),
    "/admin/policy/rollback": (_Operation("post", "Return to the policy before."),),
    "/admin/bundles": (_Operation("get", "The bundles in force."),),
    "/admin/recent": (_Operation("get", "The last requests, without prompts and answers."),),
}
_STEERING_HEADER = {
    "x-steering": {
        "description": "What steering did: policy, version, strategy, mode, coefficient, risk, "
        "rows_verified, arm.",
        "schema": {"type": "string"},
    }
}


def document(paths: Collection[str], title: str = "refusal-server") -> dict[str, Any]:
    """The document of a port that has these routes; those without an operation are left out."""
    operations = {path: _OPERATIONS[path] for path in sorted(_OPERATIONS.keys() & set(paths))}
    described = {
        path.replace(":path", ""): {
            **_parameters(path),
            **{operation.method: _described(path, operation) for operation in found},
        }
        for path, found in operations.items()
    }
    codes = ", ".join(f"`{code}` ({status})" for code, status in sorted(STEERING_STATUSES.items()))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "description": f"OpenAI's chat API, steered. Codes of steering's errors: {codes}.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": described,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _parameters(path: str) -> dict[str, Any]:
    if "{name" not in path:
        return {}
    schema = {"type": "string"}
    return {"parameters": [{"name": "name", "in": "path", "required": True, "schema": schema}]}


def _described(path: str, operation: _Operation) -> dict[str, Any]:
    shape: Schema = {"type": "object"} if operation.answers is None else ref(operation.answers)
    content: dict[str, Any] = {operation.kind: {"schema": shape if operation.kind == _JSON else {}}}
    answer: dict[str, Any] = {"description": operation.summary, "content": content}
    if path == "/v1/chat/completions":
        content["text/event-stream"] = {"schema": {"type": "string"}}
        answer["headers"] = _STEERING_HEADER
    error = {"description": "An error.", "content": {_JSON: {"schema": ref("Error")}}}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "responses": {"200": answer, "default": error},
        "security": [] if operation.open else [{"key": []}],
    }
    if operation.takes is not None:
        body = {_JSON: {"schema": ref(operation.takes)}}
        found["requestBody"] = {"required": True, "content": body}
    elif operation.method == "put":
        kinds = ("application/yaml", _JSON)
        found["requestBody"] = {"required": True, "content": {kind: {} for kind in kinds}}
    return found
