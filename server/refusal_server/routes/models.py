"""``GET /v1/models`` and ``GET /v1/models/{id}``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from refusal_server.caller import Caller
from refusal_server.errors import ApiError
from refusal_server.http.service import Service

router = APIRouter()


@router.api_route("/v1/models", methods=["GET", "HEAD"])
@router.api_route("/v1/models/", methods=["GET", "HEAD"])
async def list_models(request: Request) -> dict[str, Any]:
    """The served model under each name that the caller may use, and what it takes."""
    return {"object": "list", "data": list(_cards(request).values())}


@router.api_route("/v1/models/{name:path}", methods=["GET", "HEAD"])
async def retrieve_model(request: Request, name: str) -> dict[str, Any]:
    """One of them; raises a 404 for a name that the caller may not use."""
    card = _cards(request).get(name)
    if card is None:
        raise ApiError(404, "The model does not exist.", code="model_not_found", param="model")
    return card


def _cards(request: Request) -> dict[str, dict[str, Any]]:
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    return {
        name: {
            "id": name,
            "object": "model",
            "created": service.started_at,
            "owned_by": "refusal-server",
            "max_model_len": service.model.max_model_len,
            "modalities": ["text", *sorted(service.model.takes)],
        }
        for name in service.model.names
        if caller.models is None or name in caller.models
    }
