"""The place of a request among those of its key, held until its response was sent or has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi import Depends, Request

from refusal_server.caller import Caller, Origin
from refusal_server.http.service import Service


async def _placed(request: Request) -> AsyncIterator[None]:
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    if service.concurrency.unlimited(caller, caller.concurrent_requests):
        yield
        return
    origin = Origin(caller, request.headers.get("x-request-id", ""))
    async with AsyncExitStack() as held:
        with service.denials.noted(origin):
            place = service.concurrency.of_key(caller, caller.concurrent_requests)
            await held.enter_async_context(place)
        yield


# This scope ends after the last byte of a stream, and when the caller leaves or the route raises.
Placed = Depends(_placed, scope="request")
"""What a route depends on whose requests count as being in progress."""
