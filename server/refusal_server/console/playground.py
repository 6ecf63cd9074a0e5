"""One message answered twice, steered and plain, by the same service that callers reach."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from refusal_server.caller import Caller
from refusal_server.chat.request import ChatCall
from refusal_server.errors import ApiError, bad_request
from refusal_server.http.service import Service
from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.detection.detector import verdict_on
from refusal_steering.detection.lexical import LexicalDetector

CALLER = "@console"
_KEYS = ("text", "media", "policy", "strength", "max_tokens")
_MEDIA = {"image": "image_url", "audio": "audio_url", "video": "video_url"}
_MAX_TOKENS = 1024
_TOKEN_RISKS = 512


@dataclass(frozen=True, slots=True)
class Trial:
    """What the operator wants to see; ``media`` are kinds and data URLs."""

    text: str
    media: tuple[tuple[str, str], ...]
    policy: str
    strength: float | None
    max_tokens: int

    def body(self, policy: Policy, names: Sequence[str], token_risks: int) -> dict[str, Any]:
        """The request that is sent under ``policy``; greedy, so that only the policy differs."""
        parts: list[dict[str, Any]] = [
            {"type": _MEDIA[kind], _MEDIA[kind]: {"url": url}} for kind, url in self.media
        ]
        steering: dict[str, Any] = {
            "policy": policy.name,
            "report": True,
            "token_risks": token_risks,
        }
        if self.strength is not None and policy.bundle is not None:
            steering["strength"] = self.strength
        return {
            "model": next(name for name in policy.rule.models or names if name in names),
            "messages": [
                {"role": "user", "content": [*parts, {"type": "text", "text": self.text}]}
            ],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "logprobs": True,
            "steering": steering,
        }


def parse(body: dict[str, Any]) -> Trial:
    """Check the shape of a trial; the intake checks the rest. Raises a 400 that names the field."""
    for key in body:
        if key not in _KEYS:
            raise bad_request(f"A trial has an unknown key; it takes {', '.join(_KEYS)}.")
    text, policy = body.get("text"), body.get("policy")
    if not isinstance(text, str) or not text.strip():
        raise bad_request("text must be a string that is not empty.", param="text")
    if not isinstance(policy, str):
        raise bad_request("policy must be a string, the name of a policy.", param="policy")
    strength, tokens = body.get("strength"), body.get("max_tokens", 64)
    if not (isinstance(tokens, int) and 1 <= tokens <= _MAX_TOKENS) or isinstance(tokens, bool):
        message = f"max_tokens must be an integer from 1 to {_MAX_TOKENS}."
        raise bad_request(message, param="max_tokens")
    return Trial(text, _media(body.get("media", [])), policy, strength, tokens)


async def compare(service: Service, trial: Trial, raw: Request) -> dict[str, Any]:
    """Both answers, the plain one ``None`` without a plain policy; an error stays on its side."""
    with service.policies.lease() as lease:
        return await _compare(service, lease.policies, trial, raw)


async def _compare(
    service: Service, policies: PolicySet, trial: Trial, raw: Request
) -> dict[str, Any]:
    steered = policies.policies.get(trial.policy)
    if steered is None or steered.bundle is None:
        raise bad_request("policy must name a policy that is not off.", param="policy")
    plain = plain_policy(policies, service.model.names)
    chosen = [steered] if plain is None else [steered, plain]
    service.health.in_flight += 1
    try:
        sides = await asyncio.gather(
            *(_side(service, policies, trial, policy, raw) for policy in chosen)
        )
    finally:
        service.health.in_flight -= 1
    return {
        "version": policies.version,
        "steered": sides[0],
        "plain": sides[1] if len(sides) > 1 else None,
    }


def plain_policy(policies: PolicySet, names: Sequence[str]) -> Policy | None:
    """A policy of mode ``off`` that is for one of the served models, if there is any."""
    for policy in policies.policies.values():
        if policy.bundle is None and set(policy.rule.models or names) & set(names):
            return policy
    return None


def _media(given: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, list):
        raise bad_request("media must be an array.", param="media")
    found = []
    for place, item in enumerate(given):
        kind, url = (item.get("kind"), item.get("url")) if isinstance(item, dict) else (None, None)
        if kind not in _MEDIA or not isinstance(url, str) or not url.startswith("data:"):
            raise bad_request(
                f"media[{place}] must be an object with kind ({', '.join(_MEDIA)}) and a data URL "
                "as url.",
                param=f"media[{place}]",
            )
        found.append((kind, url))
    return tuple(found)


async def _side(
    service: Service, policies: PolicySet, trial: Trial, policy: Policy, raw: Request
) -> dict[str, Any]:
    about = {"policy": policy.name, "mode": policy.rule.mode, "strategy": policy.strategy}
    request_id = f"console-{uuid.uuid4().hex}"
    caller = Caller(name=CALLER, policies=frozenset(policies.policies), sight="all")
    try:
        if policy.rule.models and not set(policy.rule.models) & set(service.model.names):
            raise bad_request("The policy is for none of the served models.", param="policy")
        risks = min(_TOKEN_RISKS, service.intake.token_risks)
        body = trial.body(policy, service.model.names, risks)
        call = await service.intake.admit(body, policies, caller, request_id)
        answer = await service.chat.respond(call, _own_request(raw, request_id))
    except ApiError as error:
        return {**about, "error": error.message, "code": error.code}
    return {**about, **_shown(call, answer)}


def _own_request(raw: Request, request_id: str) -> Request:
    """A request of its own for each side: vLLM uses its id and writes into its state."""
    headers = [(b"x-request-id", request_id.encode())]
    return Request({**raw.scope, "headers": headers, "state": {}}, raw.receive)


def _shown(call: ChatCall, answer: Response) -> dict[str, Any]:
    content = json.loads(bytes(answer.body))
    choice = content["choices"][0]
    text = choice["message"].get("content") or choice["message"].get("refusal") or ""
    logged = (choice.get("logprobs") or {}).get("content") or []
    report = content.get("steering")
    tokens = [entry["token"] for entry in logged]
    return {
        "text": text,
        "refused": bool(choice["message"].get("refusal"))
        or verdict_on(text, LexicalDetector()) == "refusal",
        "finish_reason": choice["finish_reason"],
        "modality": call.modality,
        "risk": report["risk"] if report else None,
        "coefficient": report["coefficient"] if report else None,
        "rows_verified": report["rows_verified"] if report else 0,
        "gate": report["gate"] if report else None,
        "tokens": _tokens(call, report, tokens) if report else [],
        "omitted": report["tokens_omitted"] if report else 0,
    }


def _tokens(call: ChatCall, report: dict[str, Any], texts: list[str]) -> list[dict[str, Any]]:
    """The coefficient behind each answer token: the reading of the token before it."""
    readings = report["tokens"]
    first = readings[0]["position"] if readings else 0
    found = []
    for reading in readings:
        place = reading["position"] - first
        found.append(
            {
                "text": texts[place] if 0 <= place < len(texts) else None,
                "coefficient": _coefficient(call, report, reading["coefficients"], place),
                "steered": call.choice.policy.rule.mode == "enforce"
                and place < _steered_tokens(call, report),
            }
        )
    return found


def _coefficient(call: ChatCall, report: dict[str, Any], values: list[float], place: int) -> float:
    """The largest coefficient over layers; where logits are blended, the share blended in."""
    if call.choice.policy.blends:
        return float(report["coefficient"] or 0.0) if place < _steered_tokens(call, report) else 0.0
    return float(max(values, key=abs, default=0.0) * call.choice.strength)


def _steered_tokens(call: ChatCall, report: dict[str, Any]) -> float:
    """How many tokens of the answer steering could shape, beginning with its first."""
    if call.choice.policy.blends:
        return float(report["blended"])
    window = call.choice.policy.window
    if window is None or window.decode_tokens is None:
        return float("inf")
    return float(1 + window.decode_tokens)
