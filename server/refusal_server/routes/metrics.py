"""``GET /metrics``: the engine's and ours in one exposition."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from refusal_server.http.service import Service

PATH = "/metrics"
router = APIRouter()


@router.api_route(PATH, methods=["GET", "HEAD"])
async def metrics(request: Request) -> Response:
    """Prometheus' text format, or OpenMetrics with exemplars, as the scraper asks."""
    service: Service = request.app.state.service
    headers = request.headers
    found = service.exposition.answer(headers.get("accept", ""), headers.get("accept-encoding", ""))
    return Response(found.body, headers=found.headers)
