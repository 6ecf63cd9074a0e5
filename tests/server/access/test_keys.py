from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from refusal_server.access.budget import Budgets, token_cost
from refusal_server.access.key_file import (
    OPEN,
    Keyring,
    load_keyring,
    new_key,
)
from refusal_server.access.key_store import KeyStore
from refusal_server.access.tally import LocalTally
from refusal_server.caller import ANYONE, Caller
from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError
from refusal_server.http.middleware.auth import AuthMiddleware
from refusal_server.run.commands import keys as command
from tests.server.fixtures.fair_use import unheeded


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(path: Path, **entries: dict[str, Any]) -> Path:
    listed = [
        {"name": name, "sha256": digest(f"rs-{name}")} | fields for name, fields in entries.items()
    ]
    path.write_text(yaml.safe_dump({"keys": listed}))
    return path


class Gauges:
    def __init__(self) -> None:
        self.seen: list[bool] = []

    def keys_reloaded(self, success: bool) -> None:
        self.seen.append(success)


def test_every_key_admits_its_own_caller_and_no_other_text_does(tmp_path: Path) -> None:
    keyring = load_keyring(write(tmp_path / "k", a={"tenant": "x"}, b={}, c={"policies": "*"}))
    for name in "abc":
        caller = keyring.admit(f"rs-{name}".encode())
        assert caller is not None
        assert caller.name == name
    for token in (None, b"", b"rs-", b"rs-d", b"rs-a ", digest("rs-a").encode(), b"\xff"):
        assert keyring.admit(token) is None
    assert Keyring().admit(b"rs-a") is None
    assert OPEN.admit(None) is ANYONE


def test_an_empty_token_is_nobodys_even_if_its_hash_is_listed(tmp_path: Path) -> None:
    keyring = load_keyring(write(tmp_path / "k", a={"sha256": digest("")}))
    assert keyring.admit(b"") is None
    assert keyring.admit(None) is None


@pytest.mark.parametrize("token", [b"rs-a", b"rs-c", b"wrong", b""])
def test_every_entry_is_compared_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: bytes
) -> None:
    keyring = load_keyring(write(tmp_path / "k", a={}, b={}, c={}))
    compared: list[Any] = []
    compare = hmac.compare_digest

    def note(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return compare(left, right)

    monkeypatch.setattr(hmac, "compare_digest", note)
    keyring.admit(token)
    assert compared == [known for known, _ in keyring.entries]


def test_rights_default_to_nothing_but_the_own_policy(tmp_path: Path) -> None:
    rights = {"policies": ["p"], "models": ["m"], "policy": "p", "requests_per_minute": 3}
    keyring = load_keyring(write(tmp_path / "k", a={}, b={"policies": "*"}, c=rights))
    a, b, c = (caller for _, caller in keyring.entries)
    assert (a.policies, a.models, a.policy) == (frozenset(), None, None)
    assert b.policies is None
    assert (c.policies, c.models, c.policy) == (frozenset("p"), frozenset("m"), "p")
    assert c.requests_per_minute == 3


SECRET = "rs-this-must-not-be-seen"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"keys": [{"name": "a"}]}, "keys.0.sha256"),
        ({"keys": [{"name": "a", "sha256": SECRET}]}, "keys.0.sha256"),
        ({"keys": [{"name": "a", "key": SECRET, "sha256": digest("x")}]}, "unknown key"),
        ({"keys": [{"name": SECRET + "\n", "sha256": digest("x")}]}, "keys.0.name"),
        ({"keys": [{"name": n, "sha256": digest("x")} for n in "ab"]}, "sha256 of key 'b'"),
        ({"keys": [{"name": "a", "sha256": digest(n)} for n in "ab"]}, "name of key 'a'"),
        ({"keys": [{"name": "a", "sha256": digest("x"), "requests_per_minute": 0}]}, "per_minute"),
        ({"keys": [{"name": "a", "sha256": digest("x"), "policies": "all"}]}, "policies"),
        ({"keys": None}, "keys"),
        ({}, "keys"),
    ],
)
def test_a_wrong_key_file_is_refused_in_one_line_without_what_it_holds(
    tmp_path: Path, content: dict[str, Any], says: str
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(FileError) as caught:
        load_keyring(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_new_key_is_random_and_its_entry_holds_only_the_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {new_key("a")[0] for _ in range(50)}
    assert len(made) == 50
    assert all(key.startswith("rs-") and len(key) >= 3 + 43 for key in made)
    assert command.run(["new", "team-a"]) == 0
    out, err = capsys.readouterr()
    key = next(word for word in err.split() if word.startswith("rs-"))
    assert key not in out
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n" + out)
    caller = load_keyring(path).admit(key.encode())
    assert caller is not None
    assert caller.name == "team-a"
    with pytest.raises(FileError):
        new_key("no spaces")


BROKEN = [None, "", "keys:", "keys: [", "keys: []\nkeys: []", "\x00", "keys: [{name: a}]"]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_key_file_keeps_the_last_good_keys(
    tmp_path: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "k", a={})
    gauges = Gauges()
    store = KeyStore(path, None, gauges)
    good, fixed = store.current, path.read_text()
    path.unlink() if text is None else path.write_text(text)
    assert not asyncio.run(store.reload())
    assert store.current is good
    assert gauges.seen == [True, False]
    path.write_text(fixed.replace("name: a", "name: b"))
    assert asyncio.run(store.reload())
    caller = store.current.admit(b"rs-a")
    assert caller is not None
    assert caller.name == "b"
    assert "rs-a" not in caplog.text
    assert digest("rs-a") not in caplog.text


def test_a_broken_key_file_does_not_start_and_an_empty_one_admits_nobody(tmp_path: Path) -> None:
    path = tmp_path / "k"
    with pytest.raises(FileError):
        KeyStore(path, None, Gauges())
    path.write_text("keys: []")
    assert KeyStore(path, None, Gauges()).current.admit(b"x") is None
    both = KeyStore(path, "single", Gauges()).current
    assert both.admit(b"single") is ANYONE
    assert both.admit(b"x") is None
    assert KeyStore(None, None, Gauges()).current.admit(None) is ANYONE


async def whoami(scope: Scope, receive: Receive, send: Send) -> None:
    caller = Request(scope).state.caller
    await JSONResponse({"name": caller.name})(scope, receive, send)


def test_the_name_reaches_the_request_and_a_revoked_key_is_one_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "k", a={}, b={})
    store = KeyStore(path, None, Gauges())
    client = TestClient(AuthMiddleware(whoami, store.admit, unheeded(), "api"))
    bearer = {"authorization": "Bearer rs-a"}
    assert client.get("/", headers=bearer).json() == {"name": "a"}
    for headers in ({}, {"authorization": "Basic rs-a"}, {"x-api-key": "rs-a"}, {"api-key": "x"}):
        response = client.get("/", headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    write(path, b={})
    assert asyncio.run(store.reload())
    assert client.get("/", headers=bearer).status_code == 401


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def refusal(budgets: Budgets, caller: Caller, tokens: int | None = None) -> ApiError | None:
    try:
        if tokens is None:
            asyncio.run(budgets.spend_request(caller))
        else:
            asyncio.run(budgets.spend_tokens(caller, tokens))
    except ApiError as error:
        assert (error.status, error.code) == (429, "rate_limit_exceeded")
        return error
    return None


def test_a_budget_ends_and_retry_after_is_when_it_is_back() -> None:
    clock = Clock()
    budgets = Budgets(LocalTally(clock))
    caller = Caller("a", requests_per_minute=6)
    assert [refusal(budgets, caller) for _ in range(6)] == [None] * 6
    for _ in range(3):
        error = refusal(budgets, caller)
        assert error is not None
        assert error.headers["retry-after"] == "10"
    clock.now = 9.9
    assert refusal(budgets, caller) is not None
    clock.now = 10.0
    assert refusal(budgets, caller) is None
    assert refusal(budgets, caller) is not None
    assert refusal(budgets, Caller("b", requests_per_minute=1)) is None


def test_no_window_of_time_lets_more_than_twice_the_rate_through() -> None:
    clock = Clock()
    budgets = Budgets(LocalTally(clock))
    caller = Caller("a", requests_per_minute=30)
    passed = []
    for step in range(3000):
        clock.now = step / 10
        if refusal(budgets, caller) is None:
            passed.append(clock.now)
    for start in range(0, 240, 7):
        within = [at for at in passed if start <= at < start + 60]
        assert len(within) <= 2 * 30
    assert len(passed) == pytest.approx(30 + 300 * 30 / 60, abs=2)


def test_tokens_are_counted_apart_and_what_can_never_pass_says_so() -> None:
    budgets = Budgets(LocalTally(Clock()))
    caller = Caller("a", tokens_per_minute=100)
    assert refusal(budgets, caller) is None
    assert refusal(budgets, caller, 60) is None
    error = refusal(budgets, caller, 60)
    assert error is not None
    assert error.headers == {"retry-after": "12"}
    assert refusal(budgets, caller, 40) is None
    error = refusal(budgets, caller, 101)
    assert error is not None
    assert error.headers == {"x-should-retry": "false"}


def test_callers_without_a_budget_are_never_refused() -> None:
    budgets = Budgets(LocalTally(Clock()))
    for caller in (ANYONE, Caller("a")):
        assert all(refusal(budgets, caller) is None for _ in range(1000))
        assert refusal(budgets, caller, 10**9) is None


def test_a_token_cost_grows_with_text_and_choices() -> None:
    said = [{"role": "user", "content": "x" * 400}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "x" * 400}, {"type": "image"}]}]
    assert token_cost(said, 50, 2) == token_cost(parts, 50, 2) == 200
    assert token_cost([{"role": "assistant", "content": None}], 50, 1) == 50
