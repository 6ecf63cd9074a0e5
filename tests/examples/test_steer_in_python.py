"""The public interface: small, imported when needed, and enough for the example that uses it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

import refusal_steering
from examples import steer_in_python
from tests.engine.bundles import random_bundle
from tests.models.tiny_tokenizer import write_tokenizer

HIDDEN, LAYERS = 32, 4
PROMPT = "Write a list of the things that you would need."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny text model of random weights."""
    folder = tmp_path_factory.mktemp("model")
    vocabulary = write_tokenizer(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary.rows,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def run(
    capsys: pytest.CaptureFixture[str], bundle: Path, model: Path, *options: str
) -> tuple[int, str]:
    status = steer_in_python.main([str(bundle), str(model), PROMPT, "--max-tokens", "6", *options])
    return status, capsys.readouterr().out


def answers(said: str) -> list[tuple[float, str]]:
    found = re.findall(r"^  (?:as it is|steered ) +([\d.]+)  (.*)$", said, re.MULTILINE)
    return [(float(coefficient), text) for coefficient, text in found]


def write(folder: Path, layers: int = LAYERS) -> Path:
    random_bundle(
        folder,
        strategy="static",
        hidden_size=HIDDEN,
        num_layers=layers,
        layers=(1, 2),
        scale=40.0,
    )
    return folder


def test_the_example_shows_both_answers_and_what_the_prompt_earned(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write(tmp_path / "bundle")
    status, said = run(capsys, bundle, model)
    plain, steered = answers(said)
    assert status == 0 and plain[0] == 0.0
    assert steered[0] > 1.0 and steered[1] != plain[1]
    _, said = run(capsys, bundle, model, "--strength", "0")
    plain, still = answers(said)
    assert still[1] == plain[1], "at strength 0 the model answers as it is"


def test_a_bundle_of_another_model_is_told_in_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run(capsys, write(tmp_path / "bundle", layers=LAYERS + 1), model)
    assert status == 1 and said.startswith("the bundle cannot be used: ") and said.count("\n") == 1


def test_every_public_name_is_there_and_used_by_the_example() -> None:
    source = Path(steer_in_python.__file__).read_text()
    for name in refusal_steering.__all__:
        assert getattr(refusal_steering, name) is not None
        assert re.search(rf"\b{name}\b", source.partition(")\n")[2]), f"{name} has no example"
    assert set(refusal_steering.__all__) <= set(dir(refusal_steering))
    with pytest.raises(AttributeError, match="no attribute 'load_bundles'"):
        importlib.import_module("refusal_steering").load_bundles  # noqa: B018


def test_importing_the_package_does_not_import_torch() -> None:
    script = "import refusal_steering, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
