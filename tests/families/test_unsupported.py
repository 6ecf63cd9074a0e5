"""A model that cannot be served or steered is refused in one line, before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from refusal_steering.tools import cli
from tests.engine.families import REFUSED

pytestmark = pytest.mark.engine
_BAICHUAN = {"model_type": "omni", "architectures": ["OmniForCausalLM"]}
_QWEN_VL = {"model_type": "qwen", "architectures": ["QWenLMHeadModel"], "visual": {}}
_OWN_CODE = {"auto_map": {"AutoConfig": "configuration.OwnConfig"}}


def written(kind: str, architecture: str, **settings: Any) -> dict[str, Any]:
    """What transformers writes of a configuration."""
    found = getattr(transformers, kind)(**settings)
    found.architectures = [architecture]
    content: dict[str, Any] = json.loads(found.to_json_string())
    return content


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (_BAICHUAN, "has no class for OmniForCausalLM"),
        (_BAICHUAN | _OWN_CODE, "has no class for OmniForCausalLM"),
        (_QWEN_VL | _OWN_CODE, "has no class for QWenLMHeadModel"),
        (
            written("WhisperConfig", "WhisperForConditionalGeneration"),
            "WhisperForConditionalGeneration is an encoder-decoder",
        ),
        (written("T5Config", "T5ForConditionalGeneration"), "is an encoder-decoder"),
        (written("BertConfig", "BertModel"), "BertModel generates no text"),
        (
            written("Gemma3nTextConfig", "Gemma3nForCausalLM", **REFUSED[0].settings),
            "do not carry one plain residual stream",
        ),
    ],
    ids=["baichuan-omni", "with-code", "qwen-vl-chat", "whisper", "t5", "bert", "gemma3n"],
)
def test_one_line_says_why(
    config: dict[str, Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(config))
    save_file({"nothing": torch.zeros(1)}, model / "model.safetensors")
    (tmp_path / "server.yaml").write_text("engine: {skip_tokenizer_init: true}\n")
    command = ["refusal-steering", "build", "--model", str(model), "--out", str(tmp_path / "out")]
    command += ["--served-by", str(tmp_path / "server.yaml")]
    command += ["--engine-args", '{"max_model_len": 256, "skip_tokenizer_init": true}']
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = [line for line in capfd.readouterr().err.splitlines() if "refusal-steering:" in line]
    assert len(said) == 1 and words in said[0]
    assert not (tmp_path / "out").exists()
