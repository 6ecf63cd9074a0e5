"""A folder that is no whole chat model is one line, whichever command is given it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from refusal_steering.calibration import model_folder
from refusal_steering.calibration.model_folder import ModelFolder
from refusal_steering.errors import SteeringError
from tests.steering.tools.command_line import CommandLine
from tests.steering.tools.damage import (
    INDEX,
    WEIGHTS,
    Damage,
    adapter,
    configured,
    cut,
    damaged,
    emptied,
    pointer,
    without,
    without_index,
    without_layer,
    without_shard,
    written,
)

# Name, what is done to a good folder, and what the line says of it.
BY_FILES: list[tuple[str, Damage, str]] = [
    ("empty", emptied, "no config.json"),
    ("adapter", adapter, "merge it"),
    ("no weights", without(WEIGHTS), "no weights"),
    ("cut weights", cut(WEIGHTS), "cut short"),
    ("weights of words", written(WEIGHTS, "not found"), "cut short"),
    ("missing shard", without_shard, "model-00002-of-00002.safetensors"),
    ("no index", without_index, INDEX),
    ("broken index", written(INDEX, "{"), "not an index"),
    ("index without weights", written(INDEX, "{}"), "not an index"),
    ("Git LFS", pointer, "git lfs pull"),
]
BY_OPENING: list[tuple[str, Damage, str]] = [
    ("cut configuration", cut("config.json"), "its configuration is at fault"),
    ("configuration of nothing", written("config.json", "{}"), "its configuration is at fault"),
    ("unknown type", configured(model_type="nothing"), "its configuration is at fault"),
    ("vision alone", configured(model_type="clip_vision_model"), "a model of text"),
    ("cut tokenizer", cut("tokenizer.json"), "its tokenizer is at fault"),
    ("no template", without("chat_template.jinja"), "no chat template"),
    ("broken template", written("chat_template.jinja", "{% if %}"), "cannot be rendered"),
    ("template that calls out", written("chat_template.jinja", "{{ nothing() }}"), "rendered"),
    ("template without the message", written("chat_template.jinja", "Hello"), "leaves out"),
    ("no tokenizer", without("tokenizer.json", "tokenizer_config.json"), "no vocabulary"),
]
BY_WEIGHTS: list[tuple[str, Damage, str]] = [
    ("missing layer", without_layer, "12 weights are missing from"),
    ("other sizes", configured(hidden_size=64), "have other sizes"),
    ("more layers", configured(num_hidden_layers=6, layer_types=None), "24 weights are missing"),
    ("fewer layers", configured(num_hidden_layers=2, layer_types=None), "weights of layer 3"),
    ("encoder", configured(model_type="bert", architectures=["BertModel"]), ""),
    ("other architecture", configured(model_type="gpt_neox", architectures=None), ""),
]


FIRST = (*BY_FILES, *BY_OPENING)


def names(cases: Sequence[tuple[str, Damage, str]]) -> list[str]:
    return [name for name, _, _ in cases]


@pytest.mark.parametrize(("name", "damage", "words"), FIRST, ids=names(FIRST))
def test_a_build_says_so_before_weights_are_read(
    model: Path,
    tmp_path: Path,
    command: CommandLine,
    unread: None,
    name: str,
    damage: Damage,
    words: str,
) -> None:
    folder = damaged(model, tmp_path / "m", damage)
    line = command.refusal("build", "--model", folder, "-o", tmp_path / "out")
    assert words in line and str(folder) in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "damage", "words"), BY_WEIGHTS, ids=names(BY_WEIGHTS))
def test_weights_that_do_not_fit_are_refused_when_read(
    model: Path, tmp_path: Path, name: str, damage: Damage, words: str
) -> None:
    folder = damaged(model, tmp_path / "m", damage)
    with pytest.raises(SteeringError) as caught:
        ModelFolder.open(folder).load()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("given", ["missing", "org/hub-name", "file"])
def test_what_is_no_folder_is_refused(
    model: Path, tmp_path: Path, command: CommandLine, unread: None, given: str
) -> None:
    path = {"missing": tmp_path / "none", "file": model / "config.json"}.get(given, Path(given))
    line = command.refusal("build", "--model", path, "-o", tmp_path / "out")
    assert str(path) in line and "expected a model's folder" in line


PROMPTS = '{"label": "harmful", "prompt": "x"}\n'


@pytest.mark.parametrize(("name", "damage", "words"), BY_FILES, ids=names(BY_FILES))
@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_collect_says_so_before_an_engine_starts(
    model: Path,
    tmp_path: Path,
    command: CommandLine,
    unread: None,
    engine: str,
    name: str,
    damage: Damage,
    words: str,
) -> None:
    folder = damaged(model, tmp_path / "m", damage)
    (tmp_path / "p.jsonl").write_text(PROMPTS)
    out = tmp_path / "rows.safetensors"
    arguments = (tmp_path / "p.jsonl", "--model", folder, "-o", out, "--engine", engine)
    assert words in command.refusal("collect", *arguments) and not out.exists()


CONSTANT = ("--coefficient", 1, "--coefficient-unit", "norm")


def imported(command: CommandLine, folder: Path, layer: int) -> tuple[Path, Path]:
    """A file with a vector for ``layer``, and the bundle that it is imported as."""
    vectors, bundle = folder / "v.pt", folder / "bundle"
    torch.save({layer: torch.randn(32)}, vectors)
    sizes = ("--model-id", "tiny", "--num-layers", 4)
    assert command("import", "omnisteer", vectors, bundle, *CONSTANT, *sizes).status == 0
    return vectors, bundle


@pytest.mark.parametrize(("name", "damage", "words"), FIRST[::3], ids=names(FIRST[::3]))
def test_every_command_with_a_model_says_so_before_its_work(
    model: Path,
    tmp_path: Path,
    command: CommandLine,
    unread: None,
    name: str,
    damage: Damage,
    words: str,
) -> None:
    folder, out = damaged(model, tmp_path / "m", damage), tmp_path / "out"
    vectors, bundle = imported(command, tmp_path, 1)
    for arguments in (
        ("import", "omnisteer", vectors, out, *CONSTANT, "--model", folder),
        ("measure", bundle, "--model", folder),
    ):
        assert words in command.refusal(*arguments)
        assert not out.exists()


def test_a_folder_of_windows_alone_is_refused_a_gate_before_its_weights_are_read(
    command: CommandLine, model: Path, tmp_path: Path
) -> None:
    kinds = ["sliding_attention"] * 4
    windows = configured(use_sliding_window=True, sliding_window=64, layer_types=kinds)
    folder, out = damaged(model, tmp_path / "m", windows), tmp_path / "out"
    _, bundle = imported(command, tmp_path, 2)
    asked = ("gate", bundle, tmp_path / "rows", "--model", folder, "--layers", "1", "-o", out)
    assert "no layer with full attention" in command.refusal(*asked)
    assert not out.exists() and not (tmp_path / "rows").exists()


def test_a_good_folder_is_read_as_it_is(model: Path) -> None:
    folder = ModelFolder.open(model)
    target = folder.load()
    assert target.identity("tiny") == folder.identity("tiny")
    assert target.encode("words") == folder.chat.encode("words")
    assert not folder.chat.thinks


def test_a_cpu_that_is_slow_in_half_precision_reads_in_float32(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tmp_path / "half"
    loaded = ModelFolder.open(model).load()
    loaded.model.to(torch.bfloat16).save_pretrained(half)
    loaded.tokenizer.save_pretrained(half)
    for slow, expected in ((True, torch.float32), (False, torch.bfloat16)):
        monkeypatch.setattr(model_folder, "slow_on_this_cpu", lambda _, slow=slow: slow)
        assert ModelFolder.open(half).load().model.dtype == expected
