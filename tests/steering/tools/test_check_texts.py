"""Conversations are measured with the tokenizer that serves, its own code included."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import dynamic_module_utils

from refusal_steering.calibration.chat import UnreadablePromptError
from refusal_steering.calibration.engine_arguments import ServedSettings
from refusal_steering.tools.models import check_texts
from tests.steering.tools.damage import damaged

CODE = """
from transformers import PreTrainedTokenizerFast


class OwnTokenizer(PreTrainedTokenizerFast):
    def __call__(self, *args, **kwargs):
        return {"input_ids": 2 * super().__call__(*args, **kwargs)["input_ids"]}
"""
LONG = [[{"role": "user", "content": "word " * 200}]]


def with_code(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config |= {
        "tokenizer_class": "OwnTokenizer",
        "auto_map": {"AutoTokenizer": [None, "own_tokenizer.OwnTokenizer"]},
    }
    path.write_text(json.dumps(config))
    (folder / "own_tokenizer.py").write_text(CODE)


@pytest.fixture
def own(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose tokenizer is code that comes with it."""
    cache = str(tmp_path / "modules")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", cache)
    monkeypatch.syspath_prepend(cache)
    return damaged(model, tmp_path / "m", with_code)


def settings(**more: object) -> ServedSettings:
    return ServedSettings({"max_model_len": 64, **more})


def test_code_of_a_model_runs_where_it_is_trusted(own: Path) -> None:
    counted = []
    for trusted in (False, True):
        with pytest.raises(UnreadablePromptError, match="at most 64 are possible") as refused:
            check_texts(str(own), settings(trust_remote_code=trusted), LONG)
        counted.append(int(str(refused.value).split()[3]))
    assert counted[1] == 2 * counted[0]


def test_the_tokenizer_of_the_settings_counts(model: Path, own: Path) -> None:
    with pytest.raises(UnreadablePromptError):
        check_texts(str(own), settings(tokenizer=str(model)), LONG)
    check_texts(str(own), settings(tokenizer=str(model), max_model_len=4096), LONG)
