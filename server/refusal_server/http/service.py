"""What the routes need, put together once at start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from refusal_server.access.budget import Budgets
from refusal_server.access.denials import Denials
from refusal_server.access.key_store import KeyStore
from refusal_server.access.places import Places
from refusal_server.access.wrong_keys import WrongKeys
from refusal_server.chat.grammar.queue import GrammarQueue
from refusal_server.chat.moderation import ModerationService
from refusal_server.chat.request import ChatIntake
from refusal_server.chat.service import ChatService
from refusal_server.events import EventSink
from refusal_server.http.health import Health
from refusal_server.http.json_body import JsonLimits
from refusal_server.http.middleware.counted import HttpCounter
from refusal_server.policy.agreement.holder import PolicyHolder
from refusal_server.policy.policy_store import PolicyStore
from refusal_server.shared.roll import Roll
from refusal_server.telemetry.exposition import Exposition
from refusal_server.telemetry.history import MetricHistory
from refusal_server.telemetry.observer import Observer
from refusal_server.telemetry.recent import Recent, RecentDenials


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
    json_limits: JsonLimits
    prove: Callable[[], Awaitable[object]]
    policies: PolicyHolder
    intake: ChatIntake
    chat: ChatService
    moderation: ModerationService
    observer: Observer
    exposition: Exposition
    http: HttpCounter
    keys: KeyStore
    budgets: Budgets
    denials: Denials
    concurrency: Places
    grammars: GrammarQueue
    wrong_keys: WrongKeys
    history: MetricHistory
    recent: Recent
    denied: RecentDenials
    events: EventSink
    roll: Roll | None = None
    operator: str | None = None

    @property
    def editor(self) -> PolicyStore:
        """The policies, in the process that may change them: the one with the ops port."""
        assert isinstance(self.policies, PolicyStore)
        return self.policies
