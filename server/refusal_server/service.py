"""What the routes need, put together once at start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from refusal_server.chat_request import ChatIntake
from refusal_server.chat_service import ChatService
from refusal_server.health import Health
from refusal_server.policy_store import PolicyStore


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind the server; ``takes`` is the largest count per modality besides text."""

    names: tuple[str, ...]
    max_model_len: int
    takes: dict[str, int]


@dataclass(frozen=True, slots=True)
class Service:
    """The running server, as the routes see it."""

    model: ServedModel
    started_at: int
    vllm_version: str
    health: Health
    policies: PolicyStore
    intake: ChatIntake
    chat: ChatService
    exposition: Callable[[], bytes]
