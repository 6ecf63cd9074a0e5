"""A template that lets the model think first is warned of, and takes arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.chat import THINKING_OFF, Chat, ChatTemplateError, quiet
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.model_folder import ModelFolder
from refusal_steering.decoder_hooks import output_logits
from refusal_steering.methods.ras import RISK_PROMPTS, similarities
from refusal_steering.prototypes import summarise
from refusal_steering.tools.canaries import model_for_canary
from refusal_steering.tools.models import open_model
from tests.steering.tools.command_line import CommandLine
from tests.steering.tools.damage import damaged, written

ASKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
OPEN = ASKED + "<|im_start|>assistant\n"
OFF = "{% if {name} is defined and not {name} %}<think>\n\n</think>\n\n{% endif %}"
ALWAYS = OPEN + "<think>\n"
SWITCH = OPEN + OFF.replace("{name}", "enable_thinking")
DEEPSEEK = (
    OPEN + "{% if thinking is defined and not thinking %}</think>{% else %}<think>{% endif %}"
)
OPT_IN = OPEN + "{% if enable_thinking %}<think>\n{% endif %}"
BRACKETS = OPEN + "[THINK]"
LOUD = '{"enable_thinking": true}'

THINKING: list[tuple[str, str, dict[str, object], bool]] = [
    ("none", OPEN, {}, False),
    ("always", ALWAYS, {}, True),
    ("brackets", BRACKETS, {}, True),
    ("switch", SWITCH, {}, True),
    ("switched off", SWITCH, {"enable_thinking": False}, False),
    ("switched on", SWITCH, {"enable_thinking": True}, True),
    ("deepseek", DEEPSEEK, {}, True),
    ("deepseek, off", DEEPSEEK, {"thinking": False}, False),
    ("opt in", OPT_IN, {}, False),
    ("opted in", OPT_IN, {"enable_thinking": True}, True),
    ("words about it", "Write <think> when you think. " + OPEN, {}, False),
]

Made = Callable[[str], Path]


@pytest.fixture
def templated(model: Path, tmp_path: Path) -> Made:
    return lambda text: damaged(model, tmp_path / "m", written("chat_template.jinja", text))


@pytest.mark.parametrize(
    ("name", "template", "arguments", "thinks"), THINKING, ids=[one[0] for one in THINKING]
)
def test_whether_a_template_thinks(
    templated: Made, name: str, template: str, arguments: dict[str, object], thinks: bool
) -> None:
    assert ModelFolder.open(templated(template), arguments).chat.thinks == thinks


def test_arguments_reach_every_prompt(templated: Made) -> None:
    folder = templated(SWITCH)
    silent = ModelFolder.open(folder, {"enable_thinking": False}).load()
    ids = silent.encode("words")
    assert silent.tokenizer.decode(ids).endswith("<think>\n\n</think>\n\n")
    assert len(ids) > len(ModelFolder.open(folder).load().encode("words"))


def test_the_commands_warn_and_take_arguments(
    templated: Made, tmp_path: Path, command: CommandLine
) -> None:
    folder, out = templated(SWITCH), tmp_path / "rows.safetensors"
    (tmp_path / "p.jsonl").write_text(json.dumps({"label": "harmful", "prompt": "x"}))
    arguments = (tmp_path / "p.jsonl", "--model", folder, "-o", out, "--engine", "transformers")
    told = command("collect", *arguments)
    assert told.status == 0 and any("thinking is off" in line for line in told.err)
    first = ActivationFile.load(out).layer(0)
    silent = command("collect", *arguments, "--template-args", '{"enable_thinking": false}')
    assert silent.status == 0 and not any("think" in line for line in silent.err)
    assert torch.equal(ActivationFile.load(out).layer(0), first)
    warned = command("collect", *arguments, "--template-args", LOUD)
    assert warned.status == 0 and any("think before it answers" in line for line in warned.err)
    assert not torch.equal(ActivationFile.load(out).layer(0), first)


def test_requests_are_read_with_thinking_off_as_the_risk_pass_is(templated: Made) -> None:
    folder = templated(SWITCH)
    target = open_model(folder).load()
    asked = replace(target, template_arguments={**target.template_arguments, **THINKING_OFF})
    assert target.encode("words") == asked.encode("words")
    assert open_model(folder, LOUD).load().encode("words") != asked.encode("words")


@pytest.mark.parametrize("given", [{}, {"enable_thinking": True}])
def test_a_canary_is_measured_behind_the_same_template(
    templated: Made, given: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = templated(SWITCH)
    identity = ModelFolder.open(folder).identity()
    target = model_for_canary(folder, identity, json.dumps(given))
    assert isinstance(target, CalibrationModel) and target.encode("words") == ModelFolder.open(
        folder, quiet(given)
    ).load().encode("words")
    assert ("think before it answers" in capsys.readouterr().err) == bool(given)


@pytest.mark.parametrize(
    "arguments", [{"messages": 1}, {"tokenize": True}, {"add_generation_prompt": False}]
)
def test_arguments_that_are_our_own_are_refused(model: Path, arguments: dict[str, object]) -> None:
    chat = Chat(ModelFolder.open(model).chat.tokenizer, arguments)
    with pytest.raises(ChatTemplateError, match="cannot be rendered"):
        chat.check("a model")


def test_a_risk_pass_is_asked_with_thinking_off(templated: Made) -> None:
    folder = templated(SWITCH)
    thinking, quiet = (
        ModelFolder.open(folder, arguments).load() for arguments in ({}, {"enable_thinking": False})
    )
    size = thinking.model.config.get_text_config().hidden_size
    states = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    prototypes = summarise(states, output_logits(thinking.model, states), 0.3)
    found = [
        similarities(target, ["one two", "three"], prototypes, 0.3, RISK_PROMPTS[1])
        for target in (thinking, quiet)
    ]
    torch.testing.assert_close(*found)
