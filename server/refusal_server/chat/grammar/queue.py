"""Requests whose grammars wait to be compiled: so many of each key, and so many over all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from refusal_server.access.denials import Denials
from refusal_server.access.places import Places
from refusal_server.access.tally import Tally
from refusal_server.chat.guard.shaping import shapes_tokens
from refusal_server.chat.request import ChatCall
from refusal_server.settings import Limits


class GrammarQueue:
    """The engine compiles grammars one after another: one caller's many must not be all of them."""

    def __init__(self, limits: Limits, denials: Denials, tally: Tally | None = None) -> None:
        self._limits = limits
        self._denials = denials
        what = "requests with a grammar or a forced tool"
        self._places = Places(what, "grammars_exceeded", tally)

    @asynccontextmanager
    async def entered(self, call: ChatCall) -> AsyncIterator[None]:
        """Hold a place during the block for a call with a grammar; raises a 429 or a 503."""
        if not shapes_tokens(call.request):
            yield
            return
        async with AsyncExitStack() as held:
            caller, most = call.origin.caller, self._limits.grammars_per_key
            with self._denials.noted(call.origin):
                await held.enter_async_context(self._places.of_key(caller, most))
            await held.enter_async_context(self._places.of_all(self._limits.grammars))
            yield
