"""The ops application with its console, over the real chat service and a scripted engine."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import yaml
from prometheus_client import generate_latest
from starlette.testclient import TestClient
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)

from refusal_server.app import build_ops_app
from refusal_server.budget import Budgets
from refusal_server.denials import Denials
from refusal_server.health import Health
from refusal_server.policy import load_policy_set
from refusal_server.policy_store import PolicyStore
from refusal_server.recent import RecentRequests
from refusal_server.service import ServedModel, Service
from refusal_server.settings import Settings
from refusal_steering.trace import Reading
from refusal_steering.vllm_plugin import gateway
from tests.server.ops import ADMIN, Events, Observer, OpenKeys
from tests.server.ranks import Ranks
from tests.server.scripted import Rig, Script

REFUSAL = "I'm sorry, but I can't help with that. Let me know about anything else."
PLAIN = "Certainly! First gather the parts, then follow the list <b>below</b>."
COEFFICIENTS = (9.0, 8.1, 7.4, 6.8, 6.1, 5.2, 4.4, 3.9, 3.1, 2.6, 2.2, 1.9, 1.4, 1.1, 0.8, 0.5)


class Talker(Script):
    """Refuses when steered and answers when not, a token a word, each token with a reading."""

    def said(self, steered: bool) -> Any:
        return self.says.get("steered" if steered else "plain", REFUSAL if steered else PLAIN)

    async def create_chat_completion(self, request: ChatCompletionRequest, raw: Any) -> Any:
        context = gateway._current.get()
        assert context is not None
        if raw is None:
            return await super().create_chat_completion(request, raw)
        steered = context.directive is not None and context.directive.applied_gain != 0.0
        said = self.said(steered)
        if isinstance(said, Exception):
            raise said
        words = re.findall(r"\S+\s*", said)
        if context.directive is not None:
            context.expect(1)
            for place, _ in enumerate(words):
                values = (COEFFICIENTS[place], -COEFFICIENTS[place] / 2)
                rows = place + 1
                reading = Reading(4 + place, values, self.risk_logit, rows, 0.05, blended=rows)
                context.observe(0, reading, 1)
        return _response(said, words)


def _response(said: str, words: list[str]) -> ChatCompletionResponse:
    logged = [{"token": word, "logprob": -0.1, "top_logprobs": []} for word in words]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said},
        "logprobs": {"content": logged},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 5, "completion_tokens": len(words), "total_tokens": 5 + len(words)}
    content = {"model": "m", "choices": [choice], "usage": usage}
    return ChatCompletionResponse.model_validate(content)


class ConsoleRig:
    """Everything behind the page; ``rules`` are policies besides the scripted rig's."""

    def __init__(
        self,
        folder: Path,
        rules: dict[str, dict[str, Any]] | None = None,
        *,
        key: str | None = ADMIN,
        off: bool = True,
    ) -> None:
        self.talker = Talker(risk_logit=2.0)
        self.chats = Rig(folder, self.talker, rules)
        self.path = folder / "policy.yaml"
        if not off:
            content = yaml.safe_load(self.path.read_text())
            del content["policies"]["off"]
            self.path.write_text(yaml.safe_dump(content))
            self.chats.policies = load_policy_set(self.path)
        self.recent = RecentRequests(60)
        self.chats.use(recent=self.recent)
        self.events = Events()
        self.ranks = Ranks()
        self.store = PolicyStore(
            self.path,
            self.chats.policies,
            self.ranks,
            self.ranks.check,
            self.ranks,
            events=self.events,
            history_size=3,
        )
        _in_a_thread(self.store.start())
        self.health = Health(lambda: False, started=True)
        self.settings = Settings(ops_port=0, admin_key=cast(Any, key))
        self.service = Service(
            model=ServedModel(("m",), 10, {"image": 4, "audio": 4, "video": 4}),
            started_at=0,
            vllm_version="0",
            health=self.health,
            policies=self.store,
            intake=self.chats.intake,
            chat=self.chats.service,
            moderation=cast(Any, None),
            observer=cast(Any, Observer()),
            exposition=lambda: generate_latest(self.chats.registry),
            keys=cast(Any, OpenKeys()),
            budgets=Budgets(),
            denials=Denials(self.chats.metrics, self.events),
            recent=self.recent,
            events=self.events,
        )
        self.app = build_ops_app(self.service, self.settings)

    def client(self, **options: Any) -> TestClient:
        """A visitor without a session."""
        return TestClient(self.app, raise_server_exceptions=False, **options)

    def reload(self) -> None:
        """The policy file was changed on disk, and the watcher has seen it."""
        _in_a_thread(self.store.reload())

    def traffic(self, policy: str, count: int = 1, **fields: Any) -> None:
        """Requests that come in on the main port, as it were."""

        async def send() -> None:
            for _ in range(count):
                await self.chats.answer(policy, **fields)

        _in_a_thread(send())


class Operator:
    """A browser that is logged in, without the browser."""

    def __init__(self, rig: ConsoleRig) -> None:
        self.rig = rig
        self.client = rig.client()
        answer = self.client.post("/console/login", data={"key": ADMIN})
        assert answer.status_code == 200
        found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', answer.text)
        assert found
        self.token = found[1]

    def get(self, name: str) -> Any:
        answer = self.client.get(f"/console/data/{name}")
        assert answer.status_code == 200
        return answer.json()

    def send(self, method: str, path: str, body: Any = None, version: str | None = None) -> Any:
        headers = {"x-csrf-token": self.token}
        if version is not None:
            headers["if-match"] = f'"{version}"'
        return self.client.request(method, f"/console/{path}", json=body, headers=headers)

    def play(self, **fields: Any) -> Any:
        body = {"text": "How?", "policy": "static", **fields}
        return self.send("POST", "data/playground", body)


def _in_a_thread(work: Any) -> None:
    """A browser's driver has a loop of its own running in the test's thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
