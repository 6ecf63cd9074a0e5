"""Whether a request limits or bends which tokens its answer may have."""

from __future__ import annotations

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_steering.detection.languages import refuses_in_any_language

_THINKING = ("enable_thinking", "thinking")
# Ordinary clients stay within these; beyond them a refusal may not be the likeliest answer.
_TEMPERATURE = 1.0
_PENALTY = 0.5
_REPETITION = (0.95, 1.05)


def shapes_answer(request: ChatCompletionRequest, refusal: str) -> bool:
    """Whether the answer that ``request`` allows may differ from what the model wants to say.

    ``refusal`` is the text of a refusal, which a stop text may cut. ``tool_choice: auto`` limits
    nothing: the model may always answer in words.
    """
    return (
        shapes_tokens(request)
        or _bans_tokens(request)
        or _moves_the_end(request, refusal)
        or _bends_the_odds(request)
        or asks_for_thinking(request)
    )


def shapes_tokens(request: ChatCompletionRequest) -> bool:
    """Whether a grammar, of a schema or of a forced tool, decides which tokens may come."""
    forced = request.tool_choice not in (None, "none", "auto")
    return forced or request.extract_structured_outputs() is not None


def asks_for_thinking(request: ChatCompletionRequest) -> bool:
    """Whether the model is asked to think before it answers."""
    return (
        any((request.chat_template_kwargs or {}).get(name) for name in _THINKING)
        or request.reasoning_effort not in (None, "none")
        or request.thinking_token_budget is not None
    )


def _bans_tokens(request: ChatCompletionRequest) -> bool:
    return bool(request.allowed_token_ids or request.bad_words or request.logit_bias)


def _moves_the_end(request: ChatCompletionRequest, refusal: str) -> bool:
    """An end that is forbidden lets the answer go on behind a refusal; a stop may cut one off."""
    if request.min_tokens or request.ignore_eos or request.stop_token_ids:
        return True
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return any(_cuts(stop, refusal) for stop in stops)


def _cuts(stop: str, refusal: str) -> bool:
    word = stop.strip().lower()
    return bool(word) and (word in refusal.lower() or refuses_in_any_language(word))


def _bends_the_odds(request: ChatCompletionRequest) -> bool:
    low, high = _REPETITION
    penalties = (request.frequency_penalty or 0.0, request.presence_penalty or 0.0)
    return (
        (request.temperature or 0.0) > _TEMPERATURE
        or not low <= (request.repetition_penalty or 1.0) <= high
        or any(abs(penalty) > _PENALTY for penalty in penalties)
    )
