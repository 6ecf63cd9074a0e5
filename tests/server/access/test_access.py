"""The callers' application with a key file, over an engine that says what it was asked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.testclient import TestClient

from refusal_server.access.budget import Budgets
from refusal_server.access.denials import Denials
from refusal_server.access.key_store import KeyStore
from refusal_server.chat.request import ChatCall, ChatIntake
from refusal_server.events import Denied, NoEvents
from refusal_server.http.health import Health
from refusal_server.http.json_body import JsonLimits
from refusal_server.http.service import ServedModel, Service
from refusal_server.media.guard import MediaGuard
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.run.app import build_app
from refusal_server.settings import Limits, Media, Settings
from refusal_server.telemetry.metrics import Metrics
from refusal_server.telemetry.ops_metrics import OpsMetrics
from refusal_server.telemetry.recent import RecentRequests
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.media_reader import HERE
from tests.server.fixtures.ranks import resting_store

CHAT = "/v1/chat/completions"
KEYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "free": {"policies": "*"},
    "named": {"policies": ["off"]},
    "tenant": {"tenant": "acme"},
    "one-model": {"models": ["n"]},
    "slow": {"requests_per_minute": 2},
    "small": {"tokens_per_minute": 100},
    "orphan": {"policy": "gone"},
}


class Events(NoEvents):
    def __init__(self) -> None:
        self.seen: list[Denied] = []

    def denied(self, event: Denied) -> None:
        self.seen.append(event)


class Echo:
    """A chat service that answers with the policy that it would have used."""

    async def respond(self, call: ChatCall, raw: Request) -> Response:
        return JSONResponse({"policy": call.choice.policy.name, "key": call.origin.caller.name})


class Server:
    def __init__(self, folder: Path) -> None:
        write_bundle(folder / "b", hidden=8)
        rules = {
            "main": {"mode": "enforce", "bundle": "b"},
            "strict": {"mode": "enforce", "bundle": "b", "strength": 1.5},
            "shown": {"mode": "shadow", "bundle": "b", "selectable": True},
            "off": {"mode": "off"},
        }
        path = folder / "policy.yaml"
        tenants = {"acme": "strict"}
        path.write_text(yaml.safe_dump({"default": "main", "tenants": tenants, "policies": rules}))
        keys = folder / "keys.yaml"
        keys.write_text(yaml.safe_dump({"keys": [self._entry(name) for name in KEYS]}))
        self.registry = CollectorRegistry()
        self.events = Events()
        metrics = Metrics("m", self.registry)
        unused = cast(Any, None)

        self.service = Service(
            model=ServedModel(("m", "n"), 10, {}),
            started_at=0,
            vllm_version="0",
            health=Health(lambda: False, started=True),
            json_limits=JsonLimits(),
            prove=unused,
            policies=resting_store(path, load_policy_set(path)),
            intake=ChatIntake(
                Limits(), MediaGuard(Media(), {}, HERE), ("m", "n"), metrics, self.events
            ),
            chat=cast(Any, Echo()),
            moderation=unused,
            observer=unused,
            exposition=lambda: b"",
            keys=KeyStore(keys, None, OpsMetrics("m", self.registry)),
            budgets=Budgets(),
            denials=Denials(metrics, self.events),
            recent=RecentRequests(1),
            events=self.events,
        )
        self.client = TestClient(build_app(self.service, Settings()))

    @staticmethod
    def _entry(name: str) -> dict[str, Any]:
        digest = hashlib.sha256(f"rs-{name}".encode()).hexdigest()
        return {"name": name, "sha256": digest} | KEYS[name]

    def ask(self, key: str, policy: str | None = None, **fields: Any) -> Any:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5} | fields
        if policy is not None:
            body["steering"] = {"policy": policy}
        return self.client.post(CHAT, json=body, headers=self.bearer(key))

    def get(self, path: str, key: str) -> Any:
        return self.client.get(path, headers=self.bearer(key))

    @staticmethod
    def bearer(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer rs-{key}"}

    @property
    def denied(self) -> float | None:
        return self.registry.get_sample_value("steering_denied_total", {"model_name": "m"})


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def outcome(response: Any) -> Any:
    content = response.json()
    return content["policy"] if response.status_code == 200 else content["error"]["code"]


@pytest.mark.parametrize(
    ("key", "policy", "expected"),
    [
        ("plain", None, "main"),
        ("plain", "main", "main"),
        ("plain", "strict", "policy_not_allowed"),
        ("plain", "shown", "policy_not_allowed"),
        ("plain", "off", "policy_not_allowed"),
        ("free", "strict", "strict"),
        ("free", "shown", "shown"),
        ("free", "off", "policy_not_allowed"),
        ("named", "off", "off"),
        ("named", "strict", "policy_not_allowed"),
        ("tenant", None, "strict"),
        ("tenant", "main", "policy_not_allowed"),
        ("orphan", None, "policy_unavailable"),
        ("nobody", None, "invalid_api_key"),
    ],
)
def test_a_key_gets_what_it_is_entitled_to(
    server: Server, key: str, policy: str | None, expected: str
) -> None:
    response = server.ask(key, policy)
    assert outcome(response) == expected
    if response.status_code == 200:
        assert response.json()["key"] == key
    told = [(event.key, event.code) for event in server.events.seen]
    reached = response.status_code not in (200, 401)
    assert told == ([(key, expected)] if reached else [])
    assert server.denied == len(told)


def test_a_key_for_one_model_sees_and_uses_no_other(server: Server) -> None:
    listed = server.get("/v1/models", "one-model").json()["data"]
    assert [card["id"] for card in listed] == ["n"]
    assert outcome(server.ask("one-model", model="n")) == "main"
    for fields in ({"model": "m"}, {}):
        assert outcome(server.ask("one-model", **fields)) == "model_not_allowed"
    assert len(server.get("/v1/models", "plain").json()["data"]) == 2


def test_a_used_up_budget_is_a_429_that_says_when_to_come_back(server: Server) -> None:
    assert [server.ask("slow").status_code for _ in range(3)] == [200, 200, 429]
    response = server.ask("slow")
    assert outcome(response) == "rate_limit_exceeded"
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert server.denied == 2
    assert {event.key for event in server.events.seen} == {"slow"}
    assert server.ask("plain").status_code == 200
    assert server.get("/v1/models", "slow").status_code == 200


def test_tokens_are_budgeted_by_what_a_request_may_take(server: Server) -> None:
    assert server.ask("small", max_tokens=40).status_code == 200
    assert server.ask("small", max_tokens=20, n=2).status_code == 200
    assert outcome(server.ask("small", max_tokens=40)) == "rate_limit_exceeded"
    never = server.ask("small", max_completion_tokens=200)
    assert never.status_code == 429
    assert never.headers["x-should-retry"] == "false"
    assert "retry-after" not in never.headers
    assert server.ask("plain", max_tokens=4000).status_code == 200


def test_no_key_and_no_hash_shows_anywhere(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [server.ask(key, "off", model="m").text for key in (*KEYS, "nobody")]
    seen = "".join(texts) + caplog.text + repr(server.events.seen)
    for name in (*KEYS, "nobody"):
        assert f"rs-{name}" not in seen
        assert hashlib.sha256(f"rs-{name}".encode()).hexdigest() not in seen
