"""Counts every denied attempt and tells the event sink of it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Literal, Protocol

from refusal_server.access.tally import UNCOUNTED
from refusal_server.caller import Origin
from refusal_server.errors import ApiError
from refusal_server.events import Denied, EventSink

# A larger integer may not fit into a float.
_LARGEST = 1e300


Reason = Literal["budget", "concurrency", "grammars", "policy", "model", "report", "steering"]
"""What a caller wanted more of than it has: work (the first three), or rights."""
_REASONS: dict[str, Reason] = {
    "rate_limit_exceeded": "budget",
    "concurrent_requests_exceeded": "concurrency",
    "grammars_exceeded": "grammars",
    "policy_not_allowed": "policy",
    "policy_unavailable": "policy",
    "model_not_allowed": "model",
    "report_not_allowed": "report",
}


def reason_of(code: str) -> Reason:
    """The reason behind an error's code; others stand for a field that is out of range."""
    return _REASONS.get(code, "steering")


class DenialCounter(Protocol):
    """The metric of denied attempts."""

    def count_denied(self, reason: Reason, tenant: str | None) -> None:
        """Count one."""


class Denials:
    """Notes requests that are refused for the policy, strength, model or budget they ask for."""

    def __init__(self, counter: DenialCounter, events: EventSink) -> None:
        self._counter = counter
        self._events = events

    def noted(self, origin: Origin, asked: Any = None, known: Container[str] = ()) -> Noted:
        """Note an :class:`ApiError` that the block raises; ``asked`` is the steering field."""
        return Noted(self, origin, asked, known)

    def note(self, refusal: ApiError, origin: Origin, asked: Any, known: Container[str]) -> None:
        """Count a refusal and tell of it."""
        if refusal.code == UNCOUNTED:
            # Nobody has asked for too much; the server cannot count.
            return
        self._counter.count_denied(reason_of(refusal.code), origin.caller.tenant)
        self._events.denied(_event(origin, asked, known, refusal))


class Noted:
    """A block whose refusals are noted; every request enters several."""

    __slots__ = ("_asked", "_denials", "_known", "_origin")

    def __init__(self, denials: Denials, origin: Origin, asked: Any, known: Container[str]) -> None:
        self._denials, self._origin, self._asked, self._known = denials, origin, asked, known

    def __enter__(self) -> None:
        """Enter the block."""

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        """Note the error that ends it, if it is a refusal."""
        if isinstance(error, ApiError):
            self._denials.note(error, self._origin, self._asked, self._known)


def _event(origin: Origin, asked: Any, known: Container[str], refusal: ApiError) -> Denied:
    fields = asked if isinstance(asked, dict) else {}
    policy, strength = fields.get("policy"), fields.get("strength")
    return Denied(
        request_id=origin.request_id,
        key=origin.caller.name,
        tenant=origin.caller.tenant,
        policy=policy if isinstance(policy, str) and policy in known else None,
        strength=_number(strength),
        status=refusal.status,
        code=refusal.code,
        param=refusal.param,
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None
