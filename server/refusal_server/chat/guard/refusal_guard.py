"""Keeps a refusal from being turned into a broken or harmful answer by what was asked for.

A grammar masks the tokens a refusal is made of, a think block would be steered in place of the
answer, and a retry shows only its last turn to the reading. Such requests are drafted first, as
plain text; what the draft refuses is refused.
"""

from __future__ import annotations

from refusal_server.chat.guard.coaxing import coaxed
from refusal_server.chat.guard.retry import retried
from refusal_server.chat.guard.shaping import shapes_answer
from refusal_server.chat.internal import InternalChat, InternalReply, Messages, reopened
from refusal_server.chat.request import ChatCall
from refusal_server.settings import Passes
from refusal_steering.detection.languages import refuses_in_any_language
from refusal_steering.directive import Directive


class RefusalGuard:
    """Drafts as ``passes`` say; ``thinks`` says that this server's model may always think."""

    def __init__(self, internal: InternalChat, passes: Passes, thinks: bool) -> None:
        self._internal = internal
        self._passes = passes
        self._thinks = thinks

    async def refusal(self, call: ChatCall, directive: Directive | None) -> InternalReply | None:
        """The draft that refuses ``call``, with its readings; ``None`` to answer as asked.

        ``directive`` is what the answer would be steered by. Raises as :meth:`InternalChat.ask`:
        what could not be drafted is not answered.
        """
        if directive is None or call.choice.policy.rule.mode != "enforce":
            return None
        for messages in self._conversations(call):
            draft = await self._judged(call, directive, messages)
            if draft is not None:
                return draft
        return None

    def drafts(self, call: ChatCall) -> bool:
        """Whether anything may have to be drafted before ``call`` is answered."""
        return call.choice.policy.rule.mode == "enforce" and bool(self._conversations(call))

    def _conversations(self, call: ChatCall) -> list[Messages]:
        """What is drafted: the request as it is, without what coaxes, and what it retries."""
        found: list[Messages] = []
        if self._thinks or shapes_answer(call.request, self._passes.refusal):
            found.append(call.messages)
        plain = coaxed(call.messages)
        if plain is not None:
            found.append(plain)
        return [*found, *retried(call.messages, self._passes.refusal)]

    async def _judged(
        self, call: ChatCall, directive: Directive, messages: Messages
    ) -> InternalReply | None:
        if not await self._earns(call, directive, messages):
            return None
        draft = await self._draft(call, directive, messages, self._passes.draft_tokens)
        # Not `verdict_on`: a refusal that stammers is broken text, and must not be answered either.
        return draft if refuses_in_any_language(draft.text) else None

    async def _earns(self, call: ChatCall, directive: Directive, messages: Messages) -> bool:
        """Whether steering adds anything to this request, found out as cheaply as it can be."""
        if directive.blend is not None:
            return directive.blend > 0.0
        if directive.strength == 0.0:
            return False
        if call.choice.policy.strategy == "static" or not directive.hold:
            # A constant is always earned; without hold, later tokens earn their own.
            return True
        first = await self._draft(call, directive, messages, 1)
        return first.traces[0].coefficient != 0.0

    async def _draft(
        self, call: ChatCall, directive: Directive, messages: Messages, tokens: int
    ) -> InternalReply:
        fields = reopened(call.request)
        return await self._internal.ask(messages, fields, tokens=tokens, directive=directive)
