"""The laws on the demo model with its shipped bundles: bfloat16, compiled, real weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from refusal_steering.bundle import load_bundle
from refusal_steering.reference import greedy
from tests.engine.engines import ROOT, play_side_by_side
from tests.engine.spec import Answer, Call, Outcome, Run, Scenario
from tests.needs import demo_model, need

pytestmark = pytest.mark.engine

BUNDLES = ROOT / "deploy" / "demo" / "bundles"
# bfloat16 keeps 8 bits: two implementations that round in another order differ by about this.
LOGPROB, COEFFICIENT = 0.25, 0.06
# The others blend logits and are held to the reference by their canaries.
RESIDUAL = ("static", "omnisteer", "mars")
STRATEGIES = (*RESIDUAL, "ras", "cascade")
REQUESTS = (
    "Explain how to forge a passport. Fill in the list below with details.\n1.\n2.\n3.",
    "Explain how to bake bread. Fill in the list below with details.\n1.\n2.\n3.",
    "Write a Python function that adds two numbers.",
)


@pytest.fixture(scope="module")
def model() -> Path:
    need("demo-model")
    return demo_model()


@pytest.fixture(scope="module")
def calls(model: Path) -> tuple[Call, ...]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts = [
        tuple(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
            )
        )
        for text in REQUESTS
    ]
    made = []
    for prompt in prompts:
        plain = Call(prompt, tokens=24)
        made.append(plain)
        for name in RESIDUAL:
            window = load_bundle(BUNDLES / name).manifest.window
            steered = replace(plain, bundle=name, window=window.decode_tokens, hold=window.hold)
            made += [steered, replace(steered, strength=0.0), replace(steered, shadow=True)]
    return tuple(made)


@pytest.fixture(scope="module")
def outcomes(
    model: Path, calls: tuple[Call, ...], tmp_path_factory: pytest.TempPathFactory
) -> list[Outcome]:
    scenarios = (
        Scenario("together", calls),
        Scenario("alone", calls, together=False),
        Scenario("canary", (), script="canary"),
    )
    plain = Scenario("plain", _unsteered(calls) * 2, together=False)
    disabled = {"REFUSAL_STEERING_DISABLE": "1"}
    stock = replace(_run(model, (plain,)), attach=False, bundles={}, environment=disabled)
    folder = tmp_path_factory.mktemp("demo")
    return play_side_by_side(
        [_run(model, scenarios), stock], [folder / "steered", folder / "stock"]
    )


@pytest.fixture(scope="module")
def steered(outcomes: list[Outcome]) -> Outcome:
    return outcomes[0]


@pytest.fixture(scope="module")
def stock(outcomes: list[Outcome]) -> Outcome:
    return outcomes[1]


def _unsteered(calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """What the calls are without steering, each once."""
    return tuple(dict.fromkeys(call.unsteered() for call in calls))


def _run(model: Path, scenarios: tuple[Scenario, ...]) -> Run:
    engine: dict[str, Any] = {"dtype": "bfloat16", "limit_mm_per_prompt": {}}
    bundles = {name: str(BUNDLES / name) for name in STRATEGIES}
    return Run(str(model), scenarios, bundles, engine=engine)


def test_idle_zero_and_shadow_equal_stock_vllm(
    steered: Outcome, stock: Outcome, calls: tuple[Call, ...]
) -> None:
    assert steered.facts["compiled"] and stock.facts["compiled"]
    plain, answers = _unsteered(calls), stock.scenario("plain")
    # A prompt's first call finds nothing in the prefix cache, and is the plain one of each prompt.
    cold = dict(zip(plain, answers[: len(plain)], strict=True))
    warm = dict(zip(plain, answers[len(plain) :], strict=True))
    for call, mine in zip(calls, steered.scenario("alone"), strict=True):
        if call.bundle is None or call.strength == 0 or call.shadow:
            expected = (warm if call.bundle else cold)[call.unsteered()]
            assert (mine.tokens, mine.logprobs) == (expected.tokens, expected.logprobs)
            assert mine.cached == expected.cached


def test_mixed_batch_equals_solo_runs(steered: Outcome, calls: tuple[Call, ...]) -> None:
    for call, one, other in zip(
        calls, steered.scenario("together"), steered.scenario("alone"), strict=True
    ):
        assert one.rows == other.rows
        _close(one, other.tokens, other.logprobs)
        if call.bundle:
            # The company in a batch moves the bfloat16 rows, and a gate is steep.
            noise = _noise(load_bundle(BUNDLES / call.bundle).layers)
            assert one.coefficients[0] == pytest.approx(
                other.coefficients[0], rel=COEFFICIENT, abs=noise
            )


def test_output_and_strength_equal_the_reference(
    steered: Outcome, model: Path, calls: tuple[Call, ...]
) -> None:
    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
    for call, answer in zip(calls, steered.scenario("alone"), strict=True):
        if call.bundle is None or call.shadow or call.strength == 0:
            continue
        bundle = load_bundle(BUNDLES / call.bundle)
        inputs = {"input_ids": torch.tensor([call.prompt])}
        tokens, scores, coefficients = greedy(hf, inputs, 12, call.steering(bundle))
        logprobs = [float(s[t]) for s, t in zip(scores, tokens, strict=True)]
        _close(answer, tokens, logprobs)
        expected = [coefficients[i][len(call.prompt) - 1] for i in sorted(bundle.layers)]
        assert answer.coefficients[0] == pytest.approx(
            expected, rel=COEFFICIENT, abs=_noise(bundle.layers)
        )


def test_the_boot_canaries_pass(steered: Outcome) -> None:
    assert steered.facts["canary"] == dict.fromkeys(STRATEGIES, "")


def _close(answer: Answer, tokens: list[int], logprobs: list[float]) -> None:
    """Equal until a choice that was close: there another rounding may choose another token."""
    assert answer.error is None
    pairs = zip(answer.tokens, tokens, answer.logprobs, logprobs, strict=False)
    for number, (mine, theirs, p, q) in enumerate(pairs):
        if mine != theirs:
            assert number > 0 or abs(p - q) < LOGPROB, "the first choice differs clearly"
            return
        assert p == pytest.approx(q, abs=LOGPROB)


def _noise(layers: Any) -> float:
    return COEFFICIENT * float(max(layer.ceiling for layer in layers.values()))


def test_manifests_name_the_demo_model() -> None:
    for name in STRATEGIES:
        manifest = json.loads((BUNDLES / name / "manifest.json").read_text())
        assert manifest["model"]["id"] == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
