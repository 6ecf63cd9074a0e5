"""The residual stream is found in vLLM's real model classes, family by family."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.engine.engines import ROOT, environment
from tests.engine.families import FOUND, LAYERS, MEASURED, Family

pytestmark = pytest.mark.engine
ROUNDING = 1e-4
SPLIT = [family for family in MEASURED if family.split]


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("families")
    target = folder / "findings.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.family_probe", str(folder), str(target)],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def of(families: tuple[Family, ...] | list[Family]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("family", families, ids=lambda family: family.architecture)


@of(FOUND)
def test_the_decoder_layers_are_found_beside_towers_of_the_same_depth(
    findings: dict[str, Any], family: Family
) -> None:
    found = findings["found"][family.architecture]
    assert "refusal" not in found, found
    assert found["path"] == family.path
    assert found["count"] == LAYERS
    assert set(found["lists"]) >= {family.path, *family.decoys}
    assert found["classes"] == [family.layer]
    assert found["residuals"] == [1 if family.split else None] * LAYERS


@of(MEASURED)
def test_the_stream_is_what_every_layer_of_transformers_hands_on(
    findings: dict[str, Any], family: Family
) -> None:
    right = findings["streams"][family.architecture]["right"]
    assert len(right) == LAYERS and max(right) < ROUNDING


@of(SPLIT)
def test_half_of_a_split_stream_is_not_the_stream(findings: dict[str, Any], family: Family) -> None:
    assert min(findings["streams"][family.architecture]["wrong"]) > 100 * ROUNDING


@pytest.mark.parametrize(
    "architecture", ["CohereForCausalLM", "Exaone4ForCausalLM", "StableLmForCausalLM"]
)
def test_the_second_output_of_these_is_no_part_of_the_stream(
    findings: dict[str, Any], architecture: str
) -> None:
    wrong = findings["streams"][architecture]["wrong"]
    assert len(wrong) == LAYERS and min(wrong) > 100 * ROUNDING


@pytest.mark.parametrize("architecture", ["GraniteForCausalLM", "Olmo2ForCausalLM"])
def test_some_layers_hand_on_one_tensor(findings: dict[str, Any], architecture: str) -> None:
    assert findings["streams"][architecture]["wrong"] == []


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("Gemma3nForCausalLM", "Gemma3nDecoderLayer does not carry one plain residual stream"),
        ("BertModel", "BertLayer only encodes its input"),
    ],
)
def test_what_cannot_be_steered_is_refused_by_name(
    findings: dict[str, Any], architecture: str, words: str
) -> None:
    found = findings["found"][architecture]
    assert found["refusal"] == "UnsupportedModelError" and words in found["words"]
