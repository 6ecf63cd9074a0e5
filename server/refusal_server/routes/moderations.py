"""``POST /v1/moderations``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from refusal_server.access.budget import token_cost
from refusal_server.http.disconnect import while_connected
from refusal_server.http.leased import Leased
from refusal_server.http.place import Placed
from refusal_server.http.spending import Spending

PATH = "/v1/moderations"
router = APIRouter()


@router.post(PATH, dependencies=[Placed])
async def create_moderation(request: Request, lease: Leased) -> Response:
    """The risk of each input, by the policy that the request chooses."""
    begun = await Spending.begin(request)
    calls = await begun.service.moderation.admit(
        begun.body, lease.policies, begun.caller, begun.request_id
    )
    lease.keep(calls[0].choice.policy)
    service = begun.service
    with service.denials.noted(calls[0].origin):
        cost = sum(token_cost(call.messages, 1, 1) for call in calls)
        await service.budgets.spend_tokens(begun.caller, cost)
    answer = await while_connected(request, service.moderation.moderate(calls))
    return Response(status_code=499) if answer is None else JSONResponse(answer)
