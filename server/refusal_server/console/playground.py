"""One message answered twice, steered and plain, by the same service that callers reach."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from refusal_server.caller import Caller
from refusal_server.chat.request import ChatCall
from refusal_server.console.trial import SIDES, Side, Trial
from refusal_server.errors import ApiError, bad_request
from refusal_server.http.service import Service
from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.detection.detector import verdict_on
from refusal_steering.detection.lexical import LexicalDetector

CALLER = "@console"
_TOKEN_RISKS = 512
_EVENT = "data: "
_DONE = "[DONE]"

Line = dict[str, Any]
"""What the page is told: a ``version``, a ``side`` with more ``text``, or its whole answer."""


def answered(service: Service, trial: Trial, raw: Request) -> StreamingResponse:
    """Both answers as they come, a line of JSON each time; raises a 400 for a policy that is off.

    Without a plain policy there is one side. An error stays on its side.
    """
    _sides(service.policies.current, trial, service.model.names)
    return StreamingResponse(_lines(service, trial, raw), media_type="application/x-ndjson")


async def _lines(service: Service, trial: Trial, raw: Request) -> AsyncIterator[str]:
    queue: asyncio.Queue[Line | None] = asyncio.Queue()
    with service.policies.lease() as lease:
        policies = lease.policies
        service.health.in_flight += 1
        work = asyncio.create_task(_both(service, policies, trial, raw, queue))
        try:
            while (line := await queue.get()) is not None:
                yield json.dumps(line) + "\n"
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            service.health.in_flight -= 1


async def _both(
    service: Service,
    policies: PolicySet,
    trial: Trial,
    raw: Request,
    queue: asyncio.Queue[Line | None],
) -> None:
    try:
        chosen = _sides(policies, trial, service.model.names)
        queue.put_nowait({"version": policies.version, "sides": [*chosen]})
        async with asyncio.TaskGroup() as group:
            for side, policy in chosen.items():
                answer = _Answer(service, policies, trial, side, policy, queue)
                group.create_task(answer.run(raw))
    finally:
        queue.put_nowait(None)


def _sides(policies: PolicySet, trial: Trial, names: Sequence[str]) -> dict[Side, Policy]:
    steered = policies.policies.get(trial.policy)
    if steered is None or steered.bundle is None:
        raise bad_request("policy must name a policy that is not off.", param="policy")
    plain = plain_policy(policies, names)
    return {SIDES[0]: steered} if plain is None else dict(zip(SIDES, (steered, plain), strict=True))


def plain_policy(policies: PolicySet, names: Sequence[str]) -> Policy | None:
    """A policy of mode ``off`` that is for one of the served models, if there is any."""
    for policy in policies.policies.values():
        if policy.bundle is None and set(policy.rule.models or names) & set(names):
            return policy
    return None


@dataclass(slots=True)
class _Answer:
    """One side: it puts every piece of its answer into ``queue``, and at the end the whole."""

    service: Service
    policies: PolicySet
    trial: Trial
    side: Side
    policy: Policy
    queue: asyncio.Queue[Line | None]
    text: str = ""
    tokens: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    refused: bool = False
    report: dict[str, Any] | None = None

    async def run(self, raw: Request) -> None:
        """Ask, and tell what comes."""
        about = {
            "policy": self.policy.name,
            "mode": self.policy.rule.mode,
            "strategy": self.policy.strategy,
        }
        try:
            shown = await self._ask(raw)
        except ApiError as error:
            shown = {"error": error.message, "code": error.code}
        self.queue.put_nowait({"side": self.side, "answer": {**about, **shown}})

    async def _ask(self, raw: Request) -> dict[str, Any]:
        service, names = self.service, self.service.model.names
        request_id = f"console-{uuid.uuid4().hex}"
        if self.policy.rule.models and not set(self.policy.rule.models) & set(names):
            raise bad_request("The policy is for none of the served models.", param="policy")
        caller = Caller(name=CALLER, policies=frozenset(self.policies.policies), sight="all")
        risks = min(_TOKEN_RISKS, service.intake.token_risks)
        body = self.trial.body(self.side, self.policy, names, risks)
        call = await service.intake.admit(body, self.policies, caller, request_id)
        response = await service.chat.respond(call, _own_request(raw, request_id))
        assert isinstance(response, StreamingResponse)
        async for event in response.body_iterator:
            data = str(event).removeprefix(_EVENT).strip()
            if data != _DONE:
                self._take(json.loads(data))
        return self._shown(call)

    def _take(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            error = chunk["error"]
            raise ApiError(500, error["message"], code=error["code"])
        self.report = chunk.get("steering", self.report)
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta") or {}
            piece = delta.get("content") or delta.get("refusal") or ""
            self.refused |= bool(delta.get("refusal"))
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            logged = (choice.get("logprobs") or {}).get("content") or []
            self.tokens += [entry["token"] for entry in logged]
            if piece:
                self.text += piece
                self.queue.put_nowait({"side": self.side, "text": piece})

    def _shown(self, call: ChatCall) -> dict[str, Any]:
        report = self.report
        return {
            "text": self.text,
            "refused": self.refused or verdict_on(self.text, LexicalDetector()) == "refusal",
            "finish_reason": self.finish_reason,
            "modality": call.modality,
            "risk": report["risk"] if report else None,
            "coefficient": report["coefficient"] if report else None,
            "rows_verified": report["rows_verified"] if report else 0,
            "gate": report["gate"] if report else None,
            "tokens": _tokens(call, report, self.tokens) if report else [],
            "omitted": report["tokens_omitted"] if report else 0,
        }


def _own_request(raw: Request, request_id: str) -> Request:
    """A request of its own for each side: vLLM uses its id and writes into its state."""
    headers = [(b"x-request-id", request_id.encode())]
    return Request({**raw.scope, "headers": headers, "state": {}}, raw.receive)


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
