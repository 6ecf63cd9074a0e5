"""``GET /metrics``: the engine's and ours in one exposition."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from refusal_server.http.service import Service

PATH = "/metrics"
router = APIRouter()


@router.api_route(PATH, methods=["GET", "HEAD"])
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    service: Service = request.app.state.service
    return Response(service.exposition(), media_type=CONTENT_TYPE_LATEST)
