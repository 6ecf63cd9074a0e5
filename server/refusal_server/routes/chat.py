"""``POST /v1/chat/completions``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from refusal_server.access.budget import token_cost
from refusal_server.chat.request import ChatCall
from refusal_server.errors import ApiError
from refusal_server.http.disconnect import while_connected
from refusal_server.http.leased import Leased
from refusal_server.http.place import Placed
from refusal_server.http.spending import Spending

PATH = "/v1/chat/completions"
router = APIRouter()


@router.post(PATH, dependencies=[Placed])
async def create_chat_completion(request: Request, lease: Leased) -> Response:
    """Answer a chat, steered by the policy that the request chooses."""
    begun = await Spending.begin(request)
    call = await begun.service.intake.admit(
        begun.body, lease.policies, begun.caller, begun.request_id
    )
    lease.keep(call.choice.policy)
    service = begun.service
    with service.denials.noted(call.origin):
        await service.budgets.spend_tokens(begun.caller, _cost(call))
    # A stream comes back with its first token: its grammar is compiled by then.
    async with service.grammars.entered(call):
        try:
            answer = await while_connected(request, service.chat.respond(call, request))
        except ApiError as error:
            if error.status >= 500:
                service.health.doubt()
            raise
    if answer is not None:
        service.health.answered()
    # The client is gone and nobody reads this; 499 is what access logs call it.
    return Response(status_code=499) if answer is None else answer


def _cost(call: ChatCall) -> int:
    # Not by its name, which warns: vLLM's older field.
    fields = call.request.__dict__
    asked = fields["max_completion_tokens"] or fields["max_tokens"] or 0
    return token_cost(call.messages, asked, call.request.n or 1)
