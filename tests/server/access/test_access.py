"""What the holders of keys get, and what they are denied."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.server.fixtures.keyed import KEYS, Server, outcome


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


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
