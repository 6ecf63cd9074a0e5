"""``POST /v1/chat/completions``."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from refusal_server.chat_request import ChatCall
from refusal_server.json_body import parse_object
from refusal_server.service import Service

PATH = "/v1/chat/completions"
router = APIRouter()


@router.post(PATH)
async def create_chat_completion(request: Request) -> Response:
    """Answer a chat, steered by the policy that the request chooses."""
    service: Service = request.app.state.service
    body = parse_object(await request.body())
    call = await service.intake.admit(body, service.policies.current)
    answer = await _respond(call, request)
    # The client is gone and nobody reads this; 499 is what access logs call it.
    return answer if isinstance(answer, Response) else Response(status_code=499)


@with_cancellation  # type: ignore[untyped-decorator]
async def _respond(call: ChatCall, raw_request: Request) -> Response:
    service: Service = raw_request.app.state.service
    return await service.chat.respond(call, raw_request)
