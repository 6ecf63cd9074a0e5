"""Whether the server lives, is ready, and what it runs; open to everybody, without secrets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from refusal_server import __version__
from refusal_server.http.service import Service

PROBE = "/health"
PATHS = ("/live", "/ready", PROBE, "/version")
router = APIRouter()
# Balancers ask the port that they send work to, which need not be the ops port.
probe = APIRouter()


@router.api_route("/live", methods=["GET", "HEAD"])
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.api_route("/ready", methods=["GET", "HEAD"])
@router.api_route(PROBE, methods=["GET", "HEAD"])
@probe.api_route(PROBE, methods=["GET", "HEAD"])
async def ready(request: Request) -> JSONResponse:
    """200 when work is taken, else 503 with the reason."""
    service: Service = request.app.state.service
    reason = service.health.reason
    if reason is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not_ready", "reason": reason}, status_code=503)


@router.api_route("/version", methods=["GET", "HEAD"])
async def version(request: Request) -> dict[str, Any]:
    """The versions of everything that decides an answer.

    ``operator`` is the form of the steering operator; of several API processes, the one that loads
    bundles has asked the ranks for it.
    """
    service: Service = request.app.state.service
    policies = service.policies.current
    return {
        "refusal_server": __version__,
        "vllm": service.vllm_version,
        "operator": service.operator,
        "policy_version": policies.version,
        "default_policy": policies.default,
        "bundles": {
            bundle.manifest.name: {"strategy": bundle.manifest.strategy, "digest": bundle.digest}
            for bundle in policies.bundles
        },
    }
