"""``POST /v1/moderations``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from refusal_server.access.budget import token_cost
from refusal_server.chat.request import ChatCall
from refusal_server.http.service import Service
from refusal_server.http.spending import Spending

PATH = "/v1/moderations"
router = APIRouter()


@router.post(PATH)
async def create_moderation(request: Request) -> Response:
    """The risk of each input, by the policy that the request chooses."""
    begun = await Spending.begin(request)
    service = begun.service
    calls = await service.moderation.admit(
        begun.body, service.policies.current, begun.caller, begun.request_id
    )
    with service.denials.noted(calls[0].origin):
        cost = sum(token_cost(call.messages, 1, 1) for call in calls)
        service.budgets.spend_tokens(begun.caller, cost)
    answer = await _moderate(calls, request)
    return JSONResponse(answer) if isinstance(answer, dict) else Response(status_code=499)


@with_cancellation  # type: ignore[untyped-decorator]
async def _moderate(calls: list[ChatCall], raw_request: Request) -> dict[str, Any]:
    service: Service = raw_request.app.state.service
    return await service.moderation.moderate(calls)
