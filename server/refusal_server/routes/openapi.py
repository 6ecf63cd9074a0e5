"""``GET /openapi.json``: what this port takes and answers, for tools that read OpenAPI."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.routing import Route

from refusal_server.http.openapi import PATH, document

router = APIRouter()


@router.get(PATH)
async def describe(request: Request) -> JSONResponse:
    """The OpenAPI document of this port."""
    paths = [route.path for route in request.app.routes if isinstance(route, Route)]
    return JSONResponse(document(paths))
