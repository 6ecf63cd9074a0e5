"""A name that no hub answers for is one line at once, not minutes of retries."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub import errors

from refusal_steering.tools.models import check_available
from tests.steering.tools.command_line import CommandLine

NAME = "somebody/some-model"
_ANSWER = httpx.Response(404, request=httpx.Request("GET", "http://hub/api/models"))

# What the hub's client raises, and what the line says of it.
FAULTS: list[tuple[str, Exception, str]] = [
    ("no network", httpx.ConnectError("no route"), "the hub does not answer (ConnectError)"),
    ("slow hub", httpx.ReadTimeout("slow"), "the hub does not answer (ReadTimeout)"),
    ("hub is down", errors.HfHubHTTPError("503", response=_ANSWER), "the hub does not answer"),
    ("unknown", errors.RepositoryNotFoundError("404", response=_ANSWER), "correct --model"),
    ("gated", errors.GatedRepoError("403", response=_ANSWER), "ask for access"),
    ("offline", errors.OfflineModeIsEnabled("off"), "HF_HUB_OFFLINE is set"),
]
Commands = dict[str, tuple[object, ...]]


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """Commands that take a hub's name, without the name."""
    prompts, out = tmp_path / "p.jsonl", tmp_path / "out"
    prompts.write_text(json.dumps({"label": "harmful", "prompt": "x"}))
    return {
        "collect": ("collect", prompts, "-o", out),
        "offsets": ("offsets", "-o", out),
    }


def hub(
    monkeypatch: pytest.MonkeyPatch, raised: Exception | None, found: object = None
) -> list[str | None]:
    """The hub's client raises ``raised``; its cache knows ``found``. The tokens it is given."""
    tokens: list[str | None] = []

    def model_info(name: str, *, timeout: float, token: str | None) -> None:
        assert name == NAME and timeout <= 10
        tokens.append(token)
        if raised is not None:
            raise raised

    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: found)
    return tokens


@pytest.mark.parametrize("name", ["collect", "offsets"])
@pytest.mark.parametrize(
    ("raised", "says"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_model_that_cannot_be_had(
    name: str,
    raised: Exception,
    says: str,
    commands: Commands,
    command: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub(monkeypatch, raised)
    line = command.refusal(*commands[name], "--model", NAME)
    assert NAME in line and says in line


@pytest.mark.parametrize("model", ["a//b", "two words", "a/b/c", "models-", "a/b.git"])
def test_what_is_neither_a_folder_nor_a_name(
    model: str, commands: Commands, command: CommandLine
) -> None:
    line = command.refusal(*commands["collect"], "--model", model)
    assert "neither a folder on this machine nor a name of the hub" in line


def test_a_model_in_the_cache_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hub(monkeypatch, None, found="config.json")
    check_available(NAME)


def test_the_hub_is_asked_with_the_engines_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = hub(monkeypatch, None)
    check_available(NAME, "hf_secret")
    check_available(f"{NAME}:Q4_K_M")
    assert tokens == ["hf_secret", None]


@pytest.mark.parametrize("model", ["s3://bucket/model", "gs://bucket/model", "az://a/b"])
def test_other_stores_are_left_to_vllm(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = hub(monkeypatch, None)
    check_available(model)
    monkeypatch.setenv("VLLM_USE_MODELSCOPE", "True")
    check_available(NAME)
    assert not tokens
