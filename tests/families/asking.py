"""Requests of a family to a running server: each form under each policy, alone and all at once."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx2

from refusal_steering.prompts.neutral_media import video_part
from tests.families.family import Medium
from tests.families.requests import picture, sound, words
from tests.server.fixtures.live import CHAT, KEY

OFF = "off"
_TOKENS = 8


@dataclass(frozen=True)
class Asked:
    """What a request brings, a medium with words or alone, and the policy that it names."""

    medium: Medium | None
    text: bool
    policy: str

    @property
    def name(self) -> str:
        """``text+image under static`` and so on."""
        brought = (("text",) if self.text else ()) + ((self.medium,) if self.medium else ())
        return f"{'+'.join(brought)} under {self.policy}"


@dataclass(frozen=True)
class Answer:
    """Tokens with their log-probabilities, and the report on how they were steered."""

    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    report: Mapping[str, Any]


def every_request(media: Sequence[Medium], policies: Sequence[str]) -> tuple[Asked, ...]:
    """Text, each medium with words and each alone, under every policy and under none."""
    brought: list[tuple[Medium | None, bool]] = [(None, True)]
    brought += [(medium, text) for medium in media for text in (True, False)]
    return tuple(Asked(*one, policy) for one, policy in product(brought, (OFF, *policies)))


def ask_alone(url: str, asked: Sequence[Asked]) -> dict[Asked, Answer]:
    """One request after the other."""
    with _client(url) as client:
        return {one: _ask(client, one) for one in asked}


def ask_together(url: str, asked: Sequence[Asked]) -> dict[Asked, Answer]:
    """All requests at once, which the engine computes in mixed batches."""
    with _client(url) as client, ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(lambda one: _ask(client, one), asked), strict=True))


def _client(url: str) -> httpx2.Client:
    limits = httpx2.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.Client(base_url=url, headers=headers, timeout=300, limits=limits)


def _ask(client: httpx2.Client, one: Asked) -> Answer:
    content: list[dict[str, Any]] = [_part(one.medium)] if one.medium else []
    if one.text:
        content.append({"type": "text", "text": words(0, True)})
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": _TOKENS,
        "temperature": 0,
        "logprobs": True,
        "steering": {"policy": one.policy, "report": True},
    }
    response = client.post(CHAT, json=body)
    if response.status_code != 200:
        raise RuntimeError(f"{one.name}: {response.status_code} {response.text[:300]}")
    answered = response.json()
    entries = answered["choices"][0]["logprobs"]["content"]
    return Answer(
        tuple(entry["token"] for entry in entries),
        tuple(entry["logprob"] for entry in entries),
        answered["steering"],
    )


def _part(medium: Medium) -> dict[str, Any]:
    if medium == "video":
        return video_part(0, (112, 112))
    if medium == "image":
        data = base64.b64encode(picture(0)).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    data = base64.b64encode(sound(0)).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
