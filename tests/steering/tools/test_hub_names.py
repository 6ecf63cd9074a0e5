"""A name that no hub answers for is one line at once, not minutes of retries."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub import errors

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


def hub(monkeypatch: pytest.MonkeyPatch, raised: Exception, found: object = None) -> None:
    """The hub's client raises ``raised``; its cache knows ``found``."""

    def model_info(name: str, *, timeout: float) -> None:
        assert name == NAME and timeout <= 10
        raise raised

    monkeypatch.setattr(huggingface_hub, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: found)


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
    from refusal_steering.tools.models import check_available

    hub(monkeypatch, AssertionError("the hub was asked"), found="config.json")
    check_available(NAME)
