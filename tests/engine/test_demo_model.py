"""The laws on the demo model with its shipped bundles, on real weights.

It is served in bfloat16 (on a CPU that is slow in it in float32), where every processor rounds in
another order, and a sharpened gate makes a coefficient of that. There hold the laws that are exact
to the last bit, and the canaries. What is compared with the reference, or with the same request in
other company, is computed in float32.
"""

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
from tests.needs import demo_dtype, demo_model, need

pytestmark = pytest.mark.engine

BUNDLES = ROOT / "deploy" / "demo" / "bundles"
# float32; the gates make a thousandth of a row's last bits.
LOGPROB, COEFFICIENT = 1e-3, 1e-2
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
    need("fast-cpu")
    need("demo-model")
    return demo_model()


@pytest.fixture(scope="module")
def plain(model: Path) -> tuple[Call, ...]:
    """One unsteered call for every request."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in REQUESTS
    ]
    return tuple(Call(tuple(prompt), tokens=24) for prompt in prompts)


@pytest.fixture(scope="module")
def steered(plain: tuple[Call, ...]) -> tuple[Call, ...]:
    """Every request under every bundle that steers the residual stream."""
    windows = {name: load_bundle(BUNDLES / name).manifest.window for name in RESIDUAL}
    return tuple(
        replace(call, bundle=name, window=window.decode_tokens, hold=window.hold, tokens=12)
        for call in plain
        for name, window in windows.items()
    )


@pytest.fixture(scope="module")
def idle(plain: tuple[Call, ...], steered: tuple[Call, ...]) -> tuple[Call, ...]:
    """Calls that must be as if nobody steered: the plain ones first."""
    long = [replace(call, tokens=plain[0].tokens) for call in steered]
    silent = [replace(call, strength=0.0) for call in long]
    return (*plain, *silent, *(replace(call, shadow=True) for call in long))


@pytest.fixture(scope="module")
def outcomes(
    model: Path,
    plain: tuple[Call, ...],
    steered: tuple[Call, ...],
    idle: tuple[Call, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Outcome]:
    """Of the model as it is served (compiled), of stock vLLM, and in float32."""
    served = (Scenario("idle", idle, together=False), Scenario("canary", (), script="canary"))
    twice = (Scenario("plain", plain * 2, together=False),)
    disabled = {"REFUSAL_STEERING_DISABLE": "1"}
    stock = _run(model, twice, demo_dtype())
    exact = (
        Scenario("together", (*steered, *plain)),
        Scenario("alone", steered, together=False),
    )
    runs = {
        "served": _run(model, served, demo_dtype()),
        "stock": replace(stock, attach=False, bundles={}, environment=disabled),
        "exact": _run(model, exact, "float32"),
    }
    folder = tmp_path_factory.mktemp("runs")
    played = play_side_by_side(list(runs.values()), [folder / name for name in runs])
    return dict(zip(runs, played, strict=True))


@pytest.fixture(scope="module")
def exact(outcomes: dict[str, Outcome]) -> Outcome:
    """In float32."""
    return outcomes["exact"]


def _run(model: Path, scenarios: tuple[Scenario, ...], dtype: str) -> Run:
    engine: dict[str, Any] = {"dtype": dtype, "limit_mm_per_prompt": {}}
    bundles = {name: str(BUNDLES / name) for name in STRATEGIES}
    return Run(str(model), scenarios, bundles, engine=engine)


def test_idle_zero_and_shadow_equal_stock_vllm(
    outcomes: dict[str, Outcome], plain: tuple[Call, ...], idle: tuple[Call, ...]
) -> None:
    ours, stock = outcomes["served"], outcomes["stock"]
    assert ours.facts["compiled"] and stock.facts["compiled"]
    answers = stock.scenario("plain")
    # A prompt's first call finds nothing in the prefix cache, and is the plain one of each prompt.
    cold = dict(zip(plain, answers[: len(plain)], strict=True))
    warm = dict(zip(plain, answers[len(plain) :], strict=True))
    for call, mine in zip(idle, ours.scenario("idle"), strict=True):
        expected = (warm if call.bundle else cold)[call.unsteered()]
        assert (mine.tokens, mine.logprobs) == (expected.tokens, expected.logprobs)
        assert mine.cached == expected.cached


def test_the_boot_canaries_pass(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["served"].facts["canary"] == dict.fromkeys(STRATEGIES, "")


def test_mixed_batch_equals_solo_runs(exact: Outcome, steered: tuple[Call, ...]) -> None:
    together, alone = exact.scenario("together")[: len(steered)], exact.scenario("alone")
    for one, other in zip(together, alone, strict=True):
        assert one.rows == other.rows
        _close(one, other.tokens, other.logprobs, other.coefficients[0])


def test_output_and_coefficient_equal_the_reference(
    exact: Outcome, model: Path, steered: tuple[Call, ...]
) -> None:
    hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    for call, answer in zip(steered, exact.scenario("alone"), strict=True):
        bundle = load_bundle(BUNDLES / str(call.bundle))
        prompt = {"input_ids": torch.tensor([call.prompt])}
        tokens, scores, coefficients, _ = greedy(hf, prompt, call.tokens, call.steering(bundle))
        logprobs = [float(s[t]) for s, t in zip(scores, tokens, strict=True)]
        earned = [coefficients[at][len(call.prompt) - 1] for at in sorted(bundle.layers)]
        _close(answer, tokens, logprobs, earned)


def _close(
    answer: Answer, tokens: list[int], logprobs: list[float], coefficients: list[float]
) -> None:
    assert answer.error is None
    assert answer.tokens == tokens
    assert answer.logprobs == pytest.approx(logprobs, abs=LOGPROB)
    assert answer.coefficients[0] == pytest.approx(coefficients, abs=COEFFICIENT)


def test_manifests_name_the_demo_model() -> None:
    for name in STRATEGIES:
        manifest = json.loads((BUNDLES / name / "manifest.json").read_text())
        assert manifest["model"]["id"] == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
