"""What the model sees that is dangerous in a picture or a video: one sentence, written once.

The sentence depends on the medium and on the prompt alone, so it is kept and shared between
requests and turns. Nothing of a caller's but the medium enters the request that it comes from.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

from cachetools import LRUCache
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.chat.internal import InternalChat, apart
from refusal_steering.bundle import RiskPass


class VisualContext(NamedTuple):
    """``cached`` says that this request had no pass of its own to make for it."""

    text: str
    cached: bool


class _Key(NamedTuple):
    model: str | None
    medium: str
    prompt: str
    salt: str | None


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[str]
    waiting: int = 0


class VisualContexts:
    """The latest ``size`` sentences, and those that are being written."""

    def __init__(self, internal: InternalChat, size: int) -> None:
        self._internal = internal
        self._known: LRUCache[_Key, str] = LRUCache(size)
        self._flights: dict[_Key, _Flight] = {}

    async def describe(
        self, request: ChatCompletionRequest, part: dict[str, Any], risk_pass: RiskPass
    ) -> VisualContext:
        """The sentence for one image or video part; raises as :meth:`InternalChat.ask`."""

        async def write() -> str:
            return await self._write(request, part, risk_pass)

        medium = await asyncio.to_thread(_digest, part)
        if medium is None:
            return VisualContext(await write(), cached=False)
        # The salt keeps callers who asked to be kept apart from learning who sent what.
        key = _Key(request.model, medium, _prompt_digest(risk_pass), request.cache_salt)
        if key in self._known:
            return VisualContext(self._known[key], cached=True)
        joins = key in self._flights
        return VisualContext(await self._shared(key, write), cached=joins)

    async def _write(
        self, request: ChatCompletionRequest, part: dict[str, Any], risk_pass: RiskPass
    ) -> str:
        content = [part, {"type": "text", "text": risk_pass.context_prompt}]
        reply = await self._internal.ask(
            [{"role": "user", "content": content}],
            apart(request),
            tokens=risk_pass.context_tokens,
        )
        return reply.text

    async def _shared(self, key: _Key, write: Callable[[], Coroutine[Any, Any, str]]) -> str:
        """One pass however many requests wait for it; it ends when the last of them leaves."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(self._land(key, write)))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and self._flights.get(key) is flight:
                del self._flights[key]
                flight.task.cancel()

    async def _land(self, key: _Key, write: Callable[[], Coroutine[Any, Any, str]]) -> str:
        text = await write()
        self._known[key] = text
        return text


def _digest(part: dict[str, Any]) -> str | None:
    """Names a medium by its content; ``None`` for an address, whose content may change."""
    kind = part["type"]
    url: str = part[kind]["url"]
    if url[:5].lower() != "data:":
        return None
    return hashlib.sha256(f"{kind}\0{url}".encode()).hexdigest()


def _prompt_digest(risk_pass: RiskPass) -> str:
    asked = f"{risk_pass.context_tokens}\0{risk_pass.context_prompt}"
    return hashlib.sha256(asked.encode()).hexdigest()
