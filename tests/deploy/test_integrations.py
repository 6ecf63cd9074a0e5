"""What stands before our server asks at paths that it has, and no verdict is no permission."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.deploy.promtool import ROOT
from tests.needs import need

FOLDER = ROOT / "deploy" / "integrations"
NEMO = FOLDER / "nemo_guardrails"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes() -> set[str]:
    """Paths of our route modules, read without importing vLLM."""
    folder = ROOT / "server" / "refusal_server" / "routes"
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    return set(re.findall(r'"(/[\w/]*)"', text))


def litellm() -> dict[str, Any]:
    """LiteLLM's configuration."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / "litellm.yaml").read_text())
    return found


@pytest.fixture
def nemo() -> ModuleType:
    """config.py, loaded as NeMo loads it: from its path."""
    spec = importlib.util.spec_from_file_location("config", NEMO / "config.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ask(nemo: ModuleType, monkeypatch: pytest.MonkeyPatch, handler: Handler) -> bool:
    """The action's verdict on a text, with ``handler`` as our server."""

    async def run() -> bool:
        app = web.Application()
        app.router.add_post("/v1/moderations", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            monkeypatch.setenv("REFUSAL_SERVER_URL", f"http://{host}:{port}/")
            allowed: bool = await nemo.refusal_server_allows("some text")
            return allowed
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def answering(body: object, status: int = 200) -> Handler:
    """A server that always says the same."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return handler


def test_litellm_sends_chat_and_moderation_to_our_server() -> None:
    config = litellm()
    (model,), (guard,) = config["model_list"], config["guardrails"]
    assert "/v1/chat/completions" in routes()
    for parameters in (model["litellm_params"], guard["litellm_params"]):
        # Both append their own path to a base that ends with /v1.
        assert parameters["api_base"] == "os.environ/REFUSAL_SERVER_URL"
        assert parameters["api_key"] == "os.environ/REFUSAL_SERVER_API_KEY"
    assert model["litellm_params"]["model"] == f"hosted_vllm/{guard['litellm_params']['model']}"
    assert model["litellm_params"]["num_retries"] == 0


def test_litellm_asks_before_every_call() -> None:
    (guard,) = litellm()["guardrails"]
    parameters = guard["litellm_params"]
    assert parameters["guardrail"] == "openai_moderation"
    assert parameters["mode"] == "pre_call" and parameters["default_on"] is True


def test_no_secret_stands_in_the_files() -> None:
    text = "".join(path.read_text() for path in FOLDER.rglob("*.*ml"))
    for value in re.findall(r"(?:key|token)\w*:\s*(\S+)", text):
        assert value.startswith("os.environ/") or value == "REFUSAL_SERVER_API_KEY", value


def test_nemo_runs_the_flow_that_runs_the_action_that_is_registered(nemo: ModuleType) -> None:
    config = yaml.safe_load((NEMO / "config.yml").read_text())
    (flow,) = config["rails"]["input"]["flows"]
    colang = (NEMO / "rails" / "risk.co").read_text()
    registered: dict[str, Any] = {}

    class Rails:
        def register_action(self, action: Any, name: str) -> None:
            registered[name] = action

    nemo.init(Rails())
    assert f"define flow {flow}\n" in colang
    assert re.findall(r"execute (\w+)\(text=\$user_message\)", colang) == list(registered)


def test_both_ask_at_a_path_that_our_server_has(nemo: ModuleType) -> None:
    assert nemo.PATH == "/v1/moderations"
    assert nemo.PATH in routes()
    config = yaml.safe_load((NEMO / "config.yml").read_text())
    assert config["models"][0]["parameters"]["base_url"].endswith("/v1")


def test_a_flagged_text_is_not_allowed_and_another_is(
    nemo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flagged in (True, False):
        body = {"results": [{"flagged": flagged}]}
        assert ask(nemo, monkeypatch, answering(body)) is not flagged


def test_the_text_and_the_key_are_sent(nemo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.extend([await request.json(), request.headers.get("Authorization")])
        return web.json_response({"results": [{"flagged": False}]})

    monkeypatch.setenv("REFUSAL_SERVER_API_KEY", "secret")
    assert ask(nemo, monkeypatch, handler)
    assert seen == [{"input": "some text"}, "Bearer secret"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"results": [{"flagged": False}]}, 503),
        ({"results": []}, 200),
        ({"results": [{"flagged": "no"}]}, 200),
        ({"results": [{}]}, 200),
        ({"results": 3}, 200),
        ([], 200),
        ("no JSON object", 200),
    ],
)
def test_no_verdict_is_no_permission(
    body: object, status: int, nemo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not ask(nemo, monkeypatch, answering(body, status))


def test_a_server_that_is_not_there_is_no_permission(
    nemo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL_SERVER_URL", "http://127.0.0.1:1")
    assert not asyncio.run(nemo.refusal_server_allows("some text"))


def test_nemo_accepts_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSAL_SERVER_API_KEY", "any")
    need("nemoguardrails")
    rails = importlib.import_module("nemoguardrails")
    config = rails.RailsConfig.from_path(str(NEMO))
    assert config.rails.input.flows == ["check refusal server risk"]
