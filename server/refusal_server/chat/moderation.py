"""What ``POST /v1/moderations`` tells: the risk that one forward pass reads from each input.

The same probe that decides a chat's strength, over one token that is measured and not steered.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import Any

from refusal_server.caller import Caller
from refusal_server.chat.body.nulls import drop_nulls
from refusal_server.chat.internal import InternalChat, as_sent, together
from refusal_server.chat.request import ChatCall, ChatIntake
from refusal_server.chat.vllm_errors import translate
from refusal_server.errors import ApiError, bad_request
from refusal_server.media.parts import MEDIA_KEYS
from refusal_server.policy.policy_set import PolicySet
from refusal_server.settings import Moderation
from refusal_server.telemetry.metrics import Metrics

CATEGORY = "harmful/request"
# OpenAI's own, which strict clients require; an empty list of input types says that none was read.
UNMEASURED = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening"),
    *("illicit", "illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent"),
    *("sexual", "sexual/minors", "violence", "violence/graphic"),
)
_KEYS = ("input", "model", "steering", "user", "safety_identifier")
_PARTS = ("text", *MEDIA_KEYS)


class ModerationService:
    """Scores inputs through the intake and the engine that chats take, too."""

    def __init__(
        self, intake: ChatIntake, internal: InternalChat, metrics: Metrics, settings: Moderation
    ) -> None:
        self._intake = intake
        self._internal = internal
        self._metrics = metrics
        self._settings = settings

    async def admit(
        self, body: dict[str, Any], policies: PolicySet, caller: Caller, request_id: str
    ) -> list[ChatCall]:
        """One call for each input, none of them begun; raises :class:`ApiError`."""
        drop_nulls(body)
        for key in body:
            if key not in _KEYS:
                allowed = ", ".join(_KEYS)
                raise bad_request(f"A moderation has an unknown key; it takes {allowed}.")
        contents = self._contents(body.pop("input", None))
        shared = {**body, "max_tokens": 1}
        calls = [
            await self._intake.admit(
                {**shared, "messages": [{"role": "user", "content": content}]},
                policies,
                caller,
                request_id,
            )
            for content in contents
        ]
        _require_told(calls[0])
        _require_probe(calls[0])
        return calls

    async def moderate(self, calls: list[ChatCall]) -> dict[str, Any]:
        """Score ``calls`` side by side, in OpenAI's shape; the first error ends all of them."""
        try:
            results = await together(*(self._result(call) for call in calls))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._metrics.count_moderation(calls[0].choice.policy.name, "error")
            raise translate(error) or error from error
        model = calls[0].origin.model or calls[0].request.model
        return {"id": f"modr-{uuid.uuid4().hex}", "model": model, "results": results}

    async def _result(self, call: ChatCall) -> dict[str, Any]:
        reply = await self._internal.ask(
            call.messages, as_sent(call.request), tokens=1, directive=call.choice.probe
        )
        risk = reply.traces[0].risk
        if not math.isfinite(risk):
            raise _no_probe(call)
        flagged = risk >= self._settings.threshold
        self._metrics.count_moderation(call.choice.policy.name, "flagged" if flagged else "passed")
        return {
            "flagged": flagged,
            "categories": {**dict.fromkeys(UNMEASURED, False), CATEGORY: flagged},
            "category_scores": {**dict.fromkeys(UNMEASURED, 0.0), CATEGORY: round(risk, 6)},
            "category_applied_input_types": {
                **{name: [] for name in UNMEASURED},
                CATEGORY: _kinds(call),
            },
        }

    def _contents(self, given: Any) -> list[Any]:
        """What each result is about: a text, or one list of parts for all of its parts."""
        if isinstance(given, str):
            return [_text(given, "input")]
        if not isinstance(given, list) or not given:
            raise bad_request(
                "input must be a string, or an array of strings or of parts, and not empty.",
                param="input",
            )
        if len(given) > self._settings.inputs:
            raise bad_request(
                f"input holds {len(given)} inputs; at most {self._settings.inputs} may be sent.",
                param="input",
            )
        if all(isinstance(item, str) for item in given):
            return [_text(item, f"input[{place}]") for place, item in enumerate(given)]
        return [[_part(item, f"input[{place}]") for place, item in enumerate(given)]]


def _text(text: str, where: str) -> str:
    if not text.strip():
        raise bad_request(f"{where} is empty.", param=where)
    return text


def _part(part: Any, where: str) -> dict[str, Any]:
    found = dict(part) if isinstance(part, dict) else {}
    drop_nulls(found)
    kind = found.get("type")
    if kind not in _PARTS or set(found) != {"type", kind}:
        known = ", ".join(_PARTS)
        raise bad_request(
            f"{where} must be an object with a type and one key of its name ({known}); strings "
            "and objects are not mixed.",
            param=where,
        )
    return found


def _require_told(call: ChatCall) -> None:
    """A score is a risk: who may not read risks gets none."""
    if not call.choice.told:
        raise ApiError(
            403,
            f"The policy {call.choice.policy.name!r} tells no risk to this caller; the operator "
            "can change its `report_to`, or give the API key the right `reports`.",
            code="report_not_allowed",
            param="steering.policy",
        )


def _require_probe(call: ChatCall) -> None:
    bundle = call.choice.policy.bundle
    if bundle is None:
        raise bad_request(
            f"The policy {call.choice.policy.name!r} has no bundle, so nothing here measures risk; "
            "name another with steering.policy.",
            code="moderation_unavailable",
            param="steering.policy",
        )
    probed = any(bool(layer.risk_weight.any()) for layer in bundle.layers.values())
    if bundle.gate is None and not probed:
        raise _no_probe(call)


def _no_probe(call: ChatCall) -> ApiError:
    return bad_request(
        f"The bundle of policy {call.choice.policy.name!r} has no risk probe; name another policy "
        "with steering.policy.",
        code="moderation_unavailable",
        param="steering.policy",
    )


def _kinds(call: ChatCall) -> list[str]:
    content = call.messages[0]["content"]
    if isinstance(content, str):
        return ["text"]
    return sorted({MEDIA_KEYS.get(part["type"], "text") for part in content})
