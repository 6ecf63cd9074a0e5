"""Keeps a refusal from being turned into a broken or harmful answer by the form that was asked for.

A grammar masks the tokens a refusal is made of, and a think block would be steered in place of
the answer. Such requests are drafted first, as plain text; what the draft refuses is refused.
"""

from __future__ import annotations

from refusal_server.chat.internal import InternalChat, InternalReply, drafted
from refusal_server.chat.request import ChatCall
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.directive import Directive

_THINKING = ("enable_thinking", "thinking")


class RefusalGuard:
    """Drafts of ``tokens`` tokens; ``thinks`` says that this server's model may always think."""

    def __init__(self, internal: InternalChat, tokens: int, thinks: bool) -> None:
        self._internal = internal
        self._tokens = tokens
        self._thinks = thinks
        self._detector = LexicalDetector()

    async def refusal(self, call: ChatCall, directive: Directive | None) -> InternalReply | None:
        """The draft that refuses ``call``, with its readings; ``None`` to answer as asked.

        ``directive`` is what the answer would be steered by. Raises as :meth:`InternalChat.ask`:
        what could not be drafted is not answered.
        """
        if directive is None or not self._guards(call):
            return None
        if not await self._earns(call, directive):
            return None
        draft = await self._draft(call, directive, self._tokens)
        # Not `verdict_on`: a refusal that stammers is broken text, and must not be answered either.
        return draft if self._detector.refuses(draft.text) else None

    def _guards(self, call: ChatCall) -> bool:
        enforced = call.choice.policy.rule.mode == "enforce"
        return enforced and (self._thinks or constrains(call) or asks_for_thinking(call))

    async def _earns(self, call: ChatCall, directive: Directive) -> bool:
        """Whether steering adds anything to this request, found out as cheaply as it can be."""
        if directive.blend is not None:
            return directive.blend > 0.0
        if directive.strength == 0.0:
            return False
        if call.choice.policy.strategy == "static" or not directive.hold:
            # A constant is always earned; without hold, later tokens earn their own.
            return True
        first = await self._draft(call, directive, 1)
        return first.traces[0].coefficient != 0.0

    async def _draft(self, call: ChatCall, directive: Directive, tokens: int) -> InternalReply:
        fields = drafted(call.request)
        return await self._internal.ask(call.messages, fields, tokens=tokens, directive=directive)


def constrains(call: ChatCall) -> bool:
    """Whether the request limits which tokens its answer may have.

    ``tool_choice: auto`` does not: the model may always answer in words.
    """
    request = call.request
    return (
        request.extract_structured_outputs() is not None
        or request.tool_choice not in (None, "none", "auto")
        or bool(request.allowed_token_ids or request.bad_words or request.logit_bias)
    )


def asks_for_thinking(call: ChatCall) -> bool:
    """Whether the request asks the model to think before it answers."""
    request = call.request
    return (
        any((request.chat_template_kwargs or {}).get(name) for name in _THINKING)
        or request.reasoning_effort not in (None, "none")
        or request.thinking_token_budget is not None
    )
