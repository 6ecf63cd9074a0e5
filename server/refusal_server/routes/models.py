"""``GET /v1/models``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from refusal_server.caller import Caller
from refusal_server.http.service import Service

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The served model under each name that the caller may use, and what it takes."""
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    cards = [
        {
            "id": name,
            "object": "model",
            "created": service.started_at,
            "owned_by": "refusal-server",
            "max_model_len": service.model.max_model_len,
            "modalities": ["text", *sorted(service.model.takes)],
        }
        for name in service.model.names
        if caller.models is None or name in caller.models
    ]
    return {"object": "list", "data": cards}
