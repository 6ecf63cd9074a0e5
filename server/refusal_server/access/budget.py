"""How many requests and tokens a key may spend per minute."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from refusal_server.access.tally import LocalTally, Tally
from refusal_server.caller import Caller
from refusal_server.errors import ApiError

_BYTES_PER_TOKEN = 4


class Budgets:
    """The budgets of all keys; callers without a name have none.

    Without a ``tally`` this process counts for itself.
    """

    def __init__(self, tally: Tally | None = None) -> None:
        self._tally = LocalTally() if tally is None else tally

    async def spend_request(self, caller: Caller) -> None:
        """Count one request; raises a 429 with ``Retry-After`` when the budget is used up."""
        await self._spend(caller, "requests", caller.requests_per_minute, 1)

    async def spend_tokens(self, caller: Caller, tokens: int) -> None:
        """Count the tokens that a request may take; raises a 429 as :meth:`spend_request`."""
        await self._spend(caller, "tokens", caller.tokens_per_minute, tokens)

    async def _spend(self, caller: Caller, unit: str, rate: int | None, cost: int) -> None:
        if caller.name is None or rate is None:
            return
        if cost > rate:
            raise ApiError(
                429,
                f"This request may take {cost} {unit}, more than the {rate} that its API key has "
                "in a minute; shorten it or lower max_tokens.",
                headers={"x-should-retry": "false"},
            )
        wait = await self._tally.take(json.dumps([unit, caller.name]), cost, rate)
        if wait > 0:
            raise ApiError(
                429,
                f"The API key has used up its {rate} {unit} per minute.",
                headers={"retry-after": str(max(1, math.ceil(wait)))},
            )


def token_cost(messages: list[dict[str, Any]], max_tokens: int, choices: int) -> int:
    """The tokens that a request may take: the most for its answer, an estimate for its text.

    Media are not counted: only the engine knows how many tokens they become.
    """
    prompt = sum(_text_bytes(message.get("content")) for message in messages)
    return math.ceil(prompt / _BYTES_PER_TOKEN) + max_tokens * choices


def _text_bytes(content: Any) -> int:
    if isinstance(content, str):
        return len(content.encode("utf-8", "replace"))
    texts = (part.get("text") for part in content or () if isinstance(part, Mapping))
    return sum(_text_bytes(text) for text in texts if isinstance(text, str))
