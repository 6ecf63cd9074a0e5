"""What an operator wants to see answered: a conversation, a policy, and how strong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from refusal_server.errors import bad_request
from refusal_server.policy.policy import Policy

Side = Literal["steered", "plain"]
SIDES: tuple[Side, ...] = ("steered", "plain")
_KEYS = ("text", "media", "turns", "policy", "strength", "max_tokens")
_MEDIA = {"image": "image_url", "audio": "audio_url", "video": "video_url"}
_MAX_TOKENS = 1024
_MAX_TURNS = 20

Media = tuple[tuple[str, str], ...]
"""Kinds and data URLs."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What was asked before, and what each side has answered; ``None`` where it failed."""

    text: str
    media: Media
    steered: str | None
    plain: str | None

    def answer(self, side: Side) -> str | None:
        """What ``side`` has answered."""
        return self.steered if side == "steered" else self.plain


@dataclass(frozen=True, slots=True)
class Trial:
    """One message behind ``turns``, to be answered under ``policy``."""

    text: str
    media: Media
    turns: tuple[Turn, ...]
    policy: str
    strength: float | None
    max_tokens: int

    def body(
        self, side: Side, policy: Policy, names: Sequence[str], token_risks: int
    ) -> dict[str, Any]:
        """The request that is sent under ``policy``; greedy, so that only the policy differs."""
        steering: dict[str, Any] = {
            "policy": policy.name,
            "report": True,
            "token_risks": token_risks,
        }
        if self.strength is not None and policy.bundle is not None:
            steering["strength"] = self.strength
        return {
            "model": next(name for name in policy.rule.models or names if name in names),
            "messages": self._messages(side),
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "logprobs": True,
            "stream": True,
            "steering": steering,
        }

    def _messages(self, side: Side) -> list[dict[str, Any]]:
        """Each side goes on with its own answers; a turn that it could not answer is left out."""
        found = []
        for turn in self.turns:
            said = turn.answer(side)
            if said is not None:
                found += [_asked(turn.text, turn.media), {"role": "assistant", "content": said}]
        return [*found, _asked(self.text, self.media)]


def parse(body: dict[str, Any]) -> Trial:
    """Check the shape of a trial; the intake checks the rest. Raises a 400 that names the field."""
    for key in body:
        if key not in _KEYS:
            raise bad_request(f"A trial has an unknown key; it takes {', '.join(_KEYS)}.")
    policy = body.get("policy")
    if not isinstance(policy, str):
        raise bad_request("policy must be a string, the name of a policy.", param="policy")
    strength, tokens = body.get("strength"), body.get("max_tokens", 64)
    if not (isinstance(tokens, int) and 1 <= tokens <= _MAX_TOKENS) or isinstance(tokens, bool):
        message = f"max_tokens must be an integer from 1 to {_MAX_TOKENS}."
        raise bad_request(message, param="max_tokens")
    text = _text(body.get("text"), "text")
    media = _media(body.get("media", []), "media")
    return Trial(text, media, _turns(body.get("turns", [])), policy, strength, tokens)


def _text(given: Any, place: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise bad_request(f"{place} must be a string that is not empty.", param=place)
    return given


def _turns(given: Any) -> tuple[Turn, ...]:
    if not isinstance(given, list) or len(given) > _MAX_TURNS:
        raise bad_request(f"turns must be an array of at most {_MAX_TURNS}.", param="turns")
    found = []
    for number, turn in enumerate(given):
        place = f"turns[{number}]"
        if not isinstance(turn, dict):
            raise bad_request(f"{place} must be an object.", param=place)
        answers = [turn.get(side) for side in SIDES]
        if not all(answer is None or isinstance(answer, str) for answer in answers):
            message = f"{place}: steered and plain must be strings, or null."
            raise bad_request(message, param=place)
        text = _text(turn.get("text"), f"{place}.text")
        found.append(Turn(text, _media(turn.get("media", []), f"{place}.media"), *answers))
    return tuple(found)


def _media(given: Any, place: str) -> Media:
    if not isinstance(given, list):
        raise bad_request(f"{place} must be an array.", param=place)
    found = []
    for number, item in enumerate(given):
        kind, url = (item.get("kind"), item.get("url")) if isinstance(item, dict) else (None, None)
        if kind not in _MEDIA or not isinstance(url, str) or not url.startswith("data:"):
            raise bad_request(
                f"{place}[{number}] must be an object with kind ({', '.join(_MEDIA)}) and a data "
                "URL as url.",
                param=f"{place}[{number}]",
            )
        found.append((kind, url))
    return tuple(found)


def _asked(text: str, media: Media) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"type": _MEDIA[kind], _MEDIA[kind]: {"url": url}} for kind, url in media
    ]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}
