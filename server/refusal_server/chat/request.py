"""From a JSON body to a call: vLLM's parsed request, the steering choice, the modality."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.access.cache_salts import CacheSalts
from refusal_server.access.denials import Denials
from refusal_server.caller import ANYONE, UNKNOWN, Caller, Origin
from refusal_server.chat.body.nulls import without_nulls
from refusal_server.chat.body.parsing import parse
from refusal_server.chat.fields import check_fields
from refusal_server.chat.grammar.limits import check_grammar
from refusal_server.chat.rules import check_messages
from refusal_server.chat.steering_field import SteeringChoice, choose, parse_ask
from refusal_server.errors import ApiError, bad_request
from refusal_server.events import EventSink, NoEvents
from refusal_server.media.guard import MediaGuard
from refusal_server.media.parts import media_parts
from refusal_server.policy.policy_set import PolicySet
from refusal_server.settings import Limits
from refusal_server.telemetry.ending import Admitted
from refusal_server.telemetry.metrics import Metrics, RequestLabels

# What templates write into the prompt before the first turn.
_BEFORE_TURNS = ("tools", "documents")


@dataclass(frozen=True, slots=True)
class ChatCall:
    """One admitted request.

    ``messages`` are the checked ones of the body: in ``request`` vLLM's parser has turned some
    contents into iterators that can be read once. ``origin`` names its caller and its id.
    ``admission`` is the time that admission took, without its media; ``admitted_at`` when it
    began, by :func:`time.perf_counter`.
    """

    request: ChatCompletionRequest
    choice: SteeringChoice
    modality: str
    messages: list[dict[str, Any]]
    origin: Origin = UNKNOWN
    admission: float = 0.0
    admitted_at: float = field(default_factory=time.perf_counter)

    def unread(self) -> ChatCompletionRequest:
        """The request for another answer, with contents that nobody has read yet."""
        messages = ChatCompletionRequest(messages=copy.deepcopy(self.messages)).messages
        return self.request.model_copy(update={"messages": messages})

    @property
    def labels(self) -> tuple[str, str, str]:
        """Policy, strategy and mode, for the metrics."""
        policy = self.choice.policy
        return policy.name, policy.strategy, policy.rule.mode

    @property
    def admitted(self) -> Admitted:
        """What operators may be told of it."""
        choice, bundle = self.choice, self.choice.policy.bundle
        return Admitted(
            origin=self.origin,
            labels=RequestLabels(*self.labels, self.modality, choice.arm or "none"),
            version=choice.version,
            bundle=None if bundle is None else bundle.digest,
            strength=choice.strength,
            arm=choice.arm,
            messages=self.messages,
            admitted_at=self.admitted_at,
        )


class ChatIntake:
    """Admits requests to the served models under the limits."""

    def __init__(
        self,
        limits: Limits,
        guard: MediaGuard,
        models: tuple[str, ...],
        metrics: Metrics,
        events: EventSink | None = None,
        salts: CacheSalts | None = None,
    ) -> None:
        self._limits = limits
        self._guard = guard
        self._models = models
        self._denials = Denials(metrics, events or NoEvents())
        self._salts = salts or CacheSalts()

    @property
    def token_risks(self) -> int:
        """The most numbers of the risk along a prompt that a request may ask for."""
        return self._limits.token_risks

    async def admit(
        self,
        body: dict[str, Any],
        policies: PolicySet,
        caller: Caller = ANYONE,
        request_id: str = "",
    ) -> ChatCall:
        """Check a body to the last field; raises :class:`ApiError`."""
        started = time.perf_counter()
        without_nulls(body)
        origin = self._origin(body, caller, request_id)
        asked = body.pop("steering", None)
        with self._denials.noted(origin, asked, policies.policies):
            choice = choose(parse_ask(asked, self._limits.token_risks), policies, origin)
            if body.get("model") in (None, *self._models):
                _check_rights(origin)
        self._check_model(body.get("model"))
        check_fields(body, self._limits, enforced=choice.policy.rule.mode == "enforce")
        check_grammar(body, self._limits)
        _check_measurable(body, choice)
        check_messages(body.get("messages"))
        messages = body["messages"]
        media = time.perf_counter()
        modality = await self._guard.check(messages)
        media = time.perf_counter() - media
        choice = choice.bringing(
            [medium for medium, _, _ in media_parts(messages)], from_start=_begins_elsewhere(body)
        )
        self._salt(body, caller)
        request = parse(body)
        if body.get("max_tokens") is None and request.max_completion_tokens is None:
            request.max_completion_tokens = self._limits.default_max_tokens
        admission = time.perf_counter() - started - media
        return ChatCall(request, choice, modality, messages, origin, admission, started)

    def _origin(self, body: dict[str, Any], caller: Caller, request_id: str) -> Origin:
        """OpenAI has renamed ``user``; what is not a text is for vLLM's parser to refuse."""
        users = (body.get("safety_identifier"), body.get("user"))
        user = next((user for user in users if isinstance(user, str) and user), None)
        model = body.get("model")
        asked = model if isinstance(model, str) else self._models[0]
        return Origin(caller, request_id, user, asked)

    def _salt(self, body: dict[str, Any], caller: Caller) -> None:
        """Put the server's salt in place of the caller's; vLLM's parser refuses what is none."""
        asked = body.get("cache_salt")
        if asked is None or (isinstance(asked, str) and asked):
            body["cache_salt"] = self._salts.salt(caller, asked)

    def _check_model(self, model: Any) -> None:
        if model is None:
            return
        if not isinstance(model, str):
            raise bad_request("model must be a string.", param="model")
        if model not in self._models:
            message = f"The model does not exist; this server has {', '.join(self._models)}."
            raise ApiError(404, message, code="model_not_found", param="model")


def _begins_elsewhere(body: Mapping[str, Any]) -> bool:
    """Whether a caller's words stand before the first user turn.

    These are a system prompt, an answer put there, and descriptions of tools, which templates write
    into the system prompt.
    """
    opened = body["messages"][0].get("role") != "user"
    return opened or any(body.get(key) for key in _BEFORE_TURNS)


def _check_measurable(body: dict[str, Any], choice: SteeringChoice) -> None:
    """Refuse what cannot be measured either, which matters in shadow mode."""
    if body.get("use_beam_search") and choice.steers:
        raise bad_request("Beam search cannot be steered.", param="use_beam_search")
    if body.get("truncate_prompt_tokens") is not None and choice.policy.blends:
        raise bad_request(
            "The risk of a prompt that is cut cannot be assessed; send it cut.",
            param="truncate_prompt_tokens",
        )


def _check_rights(origin: Origin) -> None:
    models = origin.caller.models
    if models is not None and origin.model not in models:
        message = "The API key is not for this model."
        raise ApiError(403, message, code="model_not_allowed", param="model")
