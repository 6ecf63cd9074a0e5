"""``GET /v1/models``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from refusal_server.service import Service

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The served model under each of its names, and what it takes."""
    service: Service = request.app.state.service
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
    ]
    return {"object": "list", "data": cards}
