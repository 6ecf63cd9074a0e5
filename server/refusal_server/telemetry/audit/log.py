"""The audit log: turns what happens into records, and hands them to the writer."""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refusal_server.events import AdminCalled, Denied, PolicyChanged, WrongKey
from refusal_server.telemetry.audit.prompt_digest import PromptDigest
from refusal_server.telemetry.audit.redaction import Redaction
from refusal_server.telemetry.audit.writer import AuditWriter, Record

_TEXTS = ("prompt", "answer", "gate_text")


@dataclass(frozen=True, slots=True)
class Answered:
    """One finished request, as far as the log may know it; numbers may be NaN.

    ``prompt_sha256`` is keyed. ``outcome`` is that of the metrics, ``detector`` who said so,
    ``error`` the code that the caller got, ``gate`` where a bundle's gate found the most risk.
    ``prompt``, ``answer`` and ``gate_text``, the text of the gate's token, are ``None`` unless the
    operator wants them.
    """

    request_id: str
    key: str | None
    tenant: str | None
    model: str | None
    policy: str
    version: str
    arm: str | None
    mode: str
    strategy: str
    bundle: str | None
    strength: float
    coefficient: float
    dose: float
    risk: float
    rows_verified: int
    outcome: str
    detector: str | None
    error: str | None
    modality: str
    gate: Mapping[str, Any] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    prompt_sha256: str | None
    prompt: str | None = None
    answer: str | None = None
    gate_text: str | None = None


class AuditLog:
    """An ``EventSink`` that also takes finished requests; nothing here blocks or raises."""

    def __init__(
        self, writer: AuditWriter, digest: PromptDigest, *, prompts: bool, prompt_chars: int
    ) -> None:
        self._writer = writer
        self._digest = digest
        self._prompts = prompts
        self._prompt_chars = prompt_chars

    async def digest(self, messages: Sequence[dict[str, Any]], *, media: bool) -> str:
        """The keyed digest of a prompt; one with ``media``, which are long, in another thread."""
        if media:
            return await asyncio.to_thread(self._digest.of, messages)
        return self._digest.of(messages)

    def prompt(self, messages: Sequence[dict[str, Any]]) -> str | None:
        """What may be written of a prompt: its texts, bounded; ``None`` by default."""
        return self._bounded("\n".join(_texts(messages))) if self._prompts else None

    def answer(self, heads: Sequence[str]) -> str | None:
        """What may be written of an answer: how its choices begin; ``None`` by default."""
        return self._bounded("\n".join(heads)) if self._prompts else None

    def token(self, text: str | None) -> str | None:
        """What may be written of a token of a prompt; ``None`` by default."""
        return text if self._prompts else None

    def answered(self, event: Answered) -> None:
        """A request under a policy that steers has ended."""
        fields = _fields(event)
        absent = [name for name in _TEXTS if fields[name] is None]
        self._put("answered", {k: v for k, v in fields.items() if k not in absent})

    def judged(self, request_id: str, detector: str, verdict: str) -> None:
        """A sampled detector has looked at an answer whose line is already written."""
        self._put("judged", {"request_id": request_id, "detector": detector, "verdict": verdict})

    def denied(self, event: Denied) -> None:
        """A request was refused."""
        self._put("denied", _fields(event))

    def wrong_key(self, event: WrongKey) -> None:
        """Keys were tried that are nobody's."""
        self._put("wrong_key", _fields(event))

    def policy_changed(self, event: PolicyChanged) -> None:
        """Another policy is in force."""
        self._put("policy_changed", _fields(event))

    def admin(self, event: AdminCalled) -> None:
        """An admin route was called."""
        self._put("admin", _fields(event))

    def close(self, seconds: float) -> None:
        """Write what waits, for at most ``seconds``; blocks."""
        self._writer.close(seconds)

    def _put(self, kind: str, fields: Mapping[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        shown = {name: plain(value) for name, value in fields.items()}
        self._writer.put({"time": now, "event": kind, **shown})

    def _bounded(self, text: str) -> str:
        return text[: self._prompt_chars]


def redacted(record: Record, redaction: Redaction) -> Record:
    """``record`` with its texts redacted; a text that the hook cannot redact is left out."""
    shown = dict(record)
    for name in _TEXTS:
        if name in shown:
            try:
                shown[name] = redaction(str(shown[name]))
            except Exception:
                shown[name] = None
                shown["redaction_failed"] = True
    return shown


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__slots__}


def plain(value: Any) -> Any:
    """``value`` as JSON can carry it: numbers rounded, ``None`` for those that are none."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _texts(messages: Sequence[dict[str, Any]]) -> list[str]:
    found = []
    for message in messages:
        content = message.get("content")
        parts = [{"text": content}] if isinstance(content, str) else content or ()
        found += [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return found
