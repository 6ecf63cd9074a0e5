"""The server's own short requests to the served model, through the way that every request takes.

They carry the caller's conversation, never the caller's sampling: a grammar, a bias on tokens or
a stop text of the caller's has no say in how its request is judged.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat

from refusal_server.chat.steering_field import SteeringAsk, choose
from refusal_server.chat.vllm_errors import from_response, translate
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.directive import Directive
from refusal_steering.errors import SteeringUnavailableError
from refusal_steering.trace import Trace
from refusal_steering.vllm_plugin.gateway import steering_context

logger = logging.getLogger(__name__)

TOP_LOGPROBS = 20
_GREEDY = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_THINKING_OFF = {"enable_thinking": False, "thinking": False}
_ALWAYS = ("model", "cache_salt")
_CONVERSATION = (*_ALWAYS, "documents", "add_special_tokens")
_TOKEN_ID = "token_id:"
_HELLO = {"role": "user", "content": "Hello!"}
_T = TypeVar("_T")

Messages = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class InternalReply:
    """``steps`` are the log-probabilities of each token's likeliest 20, if they were asked for."""

    text: str
    steps: tuple[Mapping[int, float], ...]
    traces: tuple[Trace, ...]
    response: ChatCompletionResponse


def apart(request: ChatCompletionRequest) -> dict[str, Any]:
    """For a request whose reply other callers will share: nothing of this caller's shapes it."""
    return {**_taken(request, _ALWAYS), "chat_template_kwargs": _THINKING_OFF}


def reopened(request: ChatCompletionRequest) -> dict[str, Any]:
    """For a plain answer to the conversation, or to another last turn of it: no tools, no thinking.

    Where the caller wants the answer to begin has no say either.
    """
    kwargs = {**(request.chat_template_kwargs or {}), **_THINKING_OFF}
    return {**_taken(request, _CONVERSATION), "chat_template_kwargs": kwargs}


def as_sent(request: ChatCompletionRequest) -> dict[str, Any]:
    """For the very prompt that the caller's request has, tools and thinking included."""
    fields = (*_CONVERSATION, "chat_template_kwargs", "reasoning_effort", "tools")
    return {**_taken(request, fields), "tool_choice": "none"}


class InternalChat:
    """Asks one serving object of vLLM's."""

    def __init__(self, serving: OpenAIServingChat) -> None:
        self._serving = serving

    async def ask(
        self,
        messages: Messages,
        fields: Mapping[str, Any],
        *,
        tokens: int,
        logprobs: bool = False,
        directive: Directive | None = None,
    ) -> InternalReply:
        """Greedily answer ``messages`` with at most ``tokens`` tokens, steered by ``directive``.

        Raises :class:`ApiError` for what the caller is at fault for and for a server that is
        busy or dying, :class:`SteeringUnavailableError` for everything else: a caller's request
        that cannot be judged is not answered.
        """
        try:
            request = _request(messages, fields, tokens, logprobs)
            with steering_context(directive) as context:
                # Without the caller's HTTP request: its id and headers belong to its answer.
                result = await self._serving.create_chat_completion(request, None)
            stay_cancelled()
            if not isinstance(result, ChatCompletionResponse):
                raise from_response(result)
            if context.error is not None:
                raise context.error
        except Exception as error:
            raise _judged(error) from error
        return _reply(result, tuple(context.traces), measured=directive is not None)


async def prove_answer(internal: InternalChat, policies: PolicySet) -> None:
    """Ask for one token under the default policy's reading; raises where no proven one comes."""
    directive = choose(SteeringAsk(), policies).probe
    await internal.ask([_HELLO], {}, tokens=1, directive=directive)


async def together(*work: Coroutine[Any, Any, _T]) -> list[_T]:
    """The results of ``work`` done side by side; the first error ends all of it."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        failure = errors.exceptions[0]
    else:
        return [task.result() for task in tasks]
    raise failure


def stay_cancelled() -> None:
    """vLLM takes the cancellation of a client that has left for one more error response."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _taken(request: ChatCompletionRequest, names: Sequence[str]) -> dict[str, Any]:
    return {name: copy.deepcopy(getattr(request, name)) for name in names}


def _request(
    messages: Messages, fields: Mapping[str, Any], tokens: int, logprobs: bool
) -> ChatCompletionRequest:
    asked = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if logprobs else {}
    body = {
        **fields,
        **_GREEDY,
        **asked,
        # vLLM's parser rewrites messages in place; long texts are shared, not copied.
        "messages": copy.deepcopy(list(messages)),
        "max_completion_tokens": tokens,
        "return_tokens_as_token_ids": True,
    }
    return ChatCompletionRequest.model_validate(body)


def _reply(
    result: ChatCompletionResponse, traces: tuple[Trace, ...], *, measured: bool
) -> InternalReply:
    if measured and not (traces and traces[0].readings):
        raise SteeringUnavailableError("an internal pass came back without a reading")
    choice = result.choices[0]
    # A reasoning parser may file what a model says without thinking under its thoughts.
    text = choice.message.content or choice.message.reasoning or ""
    tokens = choice.logprobs.content if choice.logprobs else None
    try:
        steps = tuple(
            {int(top.token.removeprefix(_TOKEN_ID)): top.logprob for top in token.top_logprobs}
            for token in tokens or ()
        )
    except ValueError as error:
        raise SteeringUnavailableError("an internal pass came back without token ids") from error
    return InternalReply(text, steps, traces, result)


def _judged(error: Exception) -> Exception:
    known = translate(error)
    if isinstance(error, SteeringUnavailableError):
        return error
    if known is not None and (known.status < 500 or known.status == 503):
        return known
    logger.error("an internal pass has failed", exc_info=error)
    return SteeringUnavailableError(
        "an internal pass over the request has failed, so its risk is not known; it is not answered"
    )
