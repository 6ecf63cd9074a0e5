"""How a route that spends a key's budget begins: the request is counted before it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from refusal_server.caller import Caller, Origin
from refusal_server.http.json_body import read_object
from refusal_server.http.service import Service


@dataclass(frozen=True, slots=True)
class Spending:
    """A caller whose request is counted; ``body`` is what was sent, of which nothing is checked."""

    service: Service
    caller: Caller
    request_id: str
    body: dict[str, Any]

    @classmethod
    async def begin(cls, request: Request) -> Spending:
        """Count the request, then read it; raises a noted 429, or a 400 for what is no object."""
        service: Service = request.app.state.service
        caller: Caller = request.state.caller
        request_id = request.headers.get("x-request-id", "")
        with service.denials.noted(Origin(caller, request_id)):
            await service.budgets.spend_request(caller)
        body = await read_object(await request.body(), service.json_limits)
        return cls(service, caller, request_id, body)
