"""``POST /v1/chat/completions``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from refusal_server.access.budget import token_cost
from refusal_server.chat.request import ChatCall
from refusal_server.errors import ApiError
from refusal_server.http.service import Service
from refusal_server.http.spending import Spending

PATH = "/v1/chat/completions"
router = APIRouter()


@router.post(PATH)
async def create_chat_completion(request: Request) -> Response:
    """Answer a chat, steered by the policy that the request chooses."""
    begun = await Spending.begin(request)
    service = begun.service
    call = await service.intake.admit(
        begun.body, service.policies.current, begun.caller, begun.request_id
    )
    with service.denials.noted(call.origin):
        service.budgets.spend_tokens(begun.caller, _cost(call))
    try:
        answer = await _respond(call, request)
    except ApiError as error:
        if error.status >= 500:
            service.health.doubt()
        raise
    if isinstance(answer, Response):
        service.health.answered()
    # The client is gone and nobody reads this; 499 is what access logs call it.
    return answer if isinstance(answer, Response) else Response(status_code=499)


def _cost(call: ChatCall) -> int:
    # Dumped, because reading vLLM's older field by its name warns.
    limits = call.request.model_dump(include={"max_completion_tokens", "max_tokens"})
    asked = limits["max_completion_tokens"] or limits["max_tokens"] or 0
    return token_cost(call.messages, asked, call.request.n or 1)


@with_cancellation  # type: ignore[untyped-decorator]
async def _respond(call: ChatCall, raw_request: Request) -> Response:
    service: Service = raw_request.app.state.service
    return await service.chat.respond(call, raw_request)
