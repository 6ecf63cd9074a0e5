"""Risk pass and cascade: the formula, and what is sent."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat

from refusal_server.errors import ApiError
from refusal_steering.bundle import RiskPass
from refusal_steering.errors import SteeringUnavailableError, UndecidedRiskError
from tests.server.fixtures.bundles import (
    CONTEXT_PROMPT,
    RISK_PASS,
    VOCABULARY,
    write_bundle,
)
from tests.server.fixtures.media import (
    audio_part,
    image_part,
    message,
    png,
)
from tests.server.fixtures.scripted import (
    UNIFORM,
    Call,
    Rig,
    Script,
)

TWO_PICTURES = message(image_part(png(32, 32)), image_part(png(48, 48)), text="How?")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, Script())


def logprobs(seed: int) -> list[dict[int, float]]:
    logits = 3 * np.random.default_rng(seed).normal(size=(3, VOCABULARY))
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return [dict(enumerate(row.tolist())) for row in logs]


def likeliest_refusal(rig: Rig) -> list[dict[int, float]]:
    """Steps whose Q is the bundle's own P, so that S is 1."""
    bundle = rig.policies.policies["ras"].bundle
    assert bundle is not None
    assert bundle.prototypes is not None
    prototypes = bundle.prototypes
    mass = dict(zip(prototypes.tokens.tolist(), prototypes.likelihood.tolist(), strict=True))
    return [{token: math.log(value) for token, value in mass.items()}]


def unlike_refusals(rig: Rig) -> list[dict[int, float]]:
    (refusal,) = likeliest_refusal(rig)
    return [{min(refusal, key=lambda token: refusal[token]): 0.0}]


@pytest.mark.parametrize("seed", range(6))
def test_the_risk_is_the_papers_formula(rig: Rig, seed: int) -> None:
    steps = logprobs(seed)
    rig.script.steps = lambda _: steps
    found = rig.ask("ras")["steering"]
    bundle = rig.policies.policies["ras"].bundle
    assert bundle is not None
    assert bundle.prototypes is not None
    refusing = np.zeros(VOCABULARY)
    refusing[bundle.prototypes.tokens.numpy()] = bundle.prototypes.likelihood.numpy()
    asked = np.exp([[step[t] for t in range(VOCABULARY)] for step in steps])
    asked = (np.array([1.0, 0.3, 0.09])[:, None] * asked).sum(0)
    cosine = refusing @ asked / np.linalg.norm(refusing) / np.linalg.norm(asked)
    risk = min(1 / (1 + math.exp(-10.0 * (cosine - 0.5))), 0.9)
    assert found["risk_pass"]["similarity"] == pytest.approx(cosine, abs=2e-6)
    assert found["risk"] == pytest.approx(risk if risk >= 0.01 else 0.0, abs=2e-5)
    (answer,) = rig.script.of("answer")
    assert answer.directive is not None
    assert answer.directive.blend == pytest.approx(found["risk"], abs=1e-6)


def test_quiet_risks_are_zero_and_high_ones_are_capped() -> None:
    risk_pass = RiskPass.model_validate({**RISK_PASS, "quiet": 0.2})
    assert risk_pass.risk(0.3) == 0.0
    assert risk_pass.risk(0.5) == pytest.approx(0.5)
    assert risk_pass.risk(1.0) == 0.9


@pytest.mark.parametrize(("strength", "blend"), [(1.0, 0.5), (1.5, 0.75), (2.0, 0.9)])
def test_strength_multiplies_the_risk_up_to_the_cap(
    tmp_path: Path, strength: float, blend: float
) -> None:
    rig = Rig(tmp_path, Script(risk_logit=0.0))
    bundle = rig.policies.policies["ras"].bundle
    assert bundle is not None
    assert bundle.prototypes is not None
    rig.script.steps = lambda _: [UNIFORM] * 3
    similarity = bundle.prototypes.similarity([UNIFORM] * 3, 0.3)
    risk_pass = {**RISK_PASS, "base": similarity}
    write_bundle(tmp_path / "half", strategy="ras", hidden=8, risk_pass=risk_pass)
    half = Rig(tmp_path, rig.script, {"half": {"mode": "enforce", "bundle": "half"}})
    half.ask("half", steering={"strength": strength})
    directive = half.script.of("answer")[0].directive
    assert directive is not None
    assert directive.blend == pytest.approx(blend)
    assert (directive.strength, directive.blend_tokens, directive.decode_tokens) == (0.0, 3, 2)


def test_a_pass_of_fewer_tokens_asks_for_fewer_and_compares_the_first(tmp_path: Path) -> None:
    steps = logprobs(1)
    script = Script(steps=lambda _: steps)
    found = {}
    for tokens in (1, 3, None, 64):
        name = f"t{tokens}".lower()
        risk_pass = {**RISK_PASS, "tokens": tokens}
        write_bundle(tmp_path / name, strategy="ras", hidden=8, risk_pass=risk_pass)
        rig = Rig(tmp_path, script, {name: {"mode": "enforce", "bundle": name}})
        asked = len(script.of("risk"))
        found[tokens] = rig.ask(name)["steering"]["risk_pass"]["similarity"]
        (call,) = script.of("risk")[asked:]
        assert call.request.max_completion_tokens == (1 if tokens == 1 else 3)
    assert found[3] == found[None] == found[64] != found[1]


def test_the_risk_pass_asks_about_the_request_and_nothing_else_of_it(rig: Rig) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    rig.ask(
        "ras",
        messages=[{"role": "system", "content": "be kind"}, *TWO_PICTURES],
        tools=[tool],
        tool_choice="required",
        temperature=1.5,
        logit_bias={"1": 100},
        stop=["a"],
        allowed_token_ids=[1],
        max_tokens=900,
        chat_template_kwargs={"enable_thinking": True, "reasoning_effort": "low"},
        cache_salt="salt",
    )
    (answered,) = rig.script.of("answer")
    for call in (*rig.script.of("context"), *rig.script.of("risk")):
        request = call.request
        assert call.directive is None
        assert call.raw is None
        assert request.temperature == 0.0
        assert request.cache_salt == answered.request.cache_salt is not None
        assert not (request.tools or request.stop or request.logit_bias or request.vllm_xargs)
        assert request.allowed_token_ids is None
        assert request.extract_structured_outputs() is None
        assert request.chat_template_kwargs["enable_thinking"] is False
        assert request.chat_template_kwargs["thinking"] is False
    contexts, risks = rig.script.of("context"), rig.script.of("risk")
    assert [c.request.max_completion_tokens for c in contexts] == [32, 32]
    assert all("reasoning_effort" not in call.request.chat_template_kwargs for call in contexts)
    assert all(len(call.messages) == 1 and call.text == CONTEXT_PROMPT for call in contexts)
    assert len(risks) == 2
    for call in risks:
        assert call.request.max_completion_tokens == 3
        assert (call.request.logprobs, call.request.top_logprobs) == (True, 20)
        assert call.request.return_tokens_as_token_ids
        assert call.messages[0]["content"] == "be kind"
        assert [part["type"] for part in call.messages[-1]["content"]].count("image_url") == 2
        assert call.text.endswith("Asked: How?")
    assert any('"fine" "fine"' in call.text for call in risks)
    (answer,) = rig.script.of("answer")
    assert answer.request.tool_choice == "required"
    assert answer.raw is not None


def test_text_takes_one_pass_and_audio_no_context(rig: Rig) -> None:
    rig.ask("ras")
    assert rig.script.kinds == ["risk", "answer"]
    rig.script.calls.clear()
    body = rig.ask("ras", messages=message(audio_part()))
    assert rig.script.kinds == ["risk", "answer"]
    assert body["steering"]["media"] == ["audio"]


@pytest.mark.parametrize("lying", [True, False])
def test_a_context_cannot_lower_the_risk(rig: Rig, lying: bool) -> None:
    """Whichever of the two passes sees more risk decides."""
    high, low = likeliest_refusal(rig), unlike_refusals(rig)

    def steps(call: Call) -> list[dict[int, float]]:
        return low if ('"fine"' in call.text) == lying else high

    rig.script.steps = steps
    found = rig.ask("ras", messages=message(image_part()))["steering"]
    assert found["risk_pass"]["similarity"] == pytest.approx(1.0, abs=1e-5)
    assert found["coefficient"] == pytest.approx(0.9)
    assert found["risk_pass"]["passes"] == 3


def logit(risk: float) -> float:
    return math.log(risk / (1 - risk))


@pytest.mark.parametrize(
    ("forward", "blend", "outcome"), [(0.19, 0.0, "skipped_low"), (0.81, 0.9, "skipped_high")]
)
@pytest.mark.parametrize("policy", ["cascade", "shadow-cascade"])
@pytest.mark.parametrize("streamed", [False, True])
def test_outside_the_grey_zone_the_answers_own_first_step_decides(
    rig: Rig, policy: str, forward: float, blend: float, outcome: str, streamed: bool
) -> None:
    rig.script.risk_logit = logit(forward)
    ask = {"messages": message(image_part())}
    found = (
        rig.stream(policy, **ask)[-2]["steering"]
        if streamed
        else rig.ask(policy, **ask)["steering"]
    )
    assert rig.script.kinds == ["opening"]
    directive = rig.script.calls[0].directive
    assert directive is not None
    assert (directive.blend, directive.grey_zone) == (0.9, (0.2, 0.8))
    assert (directive.strength, directive.blend_tokens, directive.decode_tokens) == (0.0, 3, 2)
    assert directive.media == ("image",)
    assert directive.shadow == policy.startswith("shadow")
    assert found["coefficient"] == blend
    assert found["risk"] == pytest.approx(forward)
    asked = {"risk": blend, "similarity": None, "seconds": 0.0, "passes": 0, "cached_contexts": 0}
    assert found["risk_pass"] == {**asked, "forward_risk": pytest.approx(forward)}
    assert rig.count("steering_risk_passes_total", outcome=outcome) == 1
    assert rig.count("steering_risk_pass_seconds_count") == 1


@pytest.mark.parametrize("forward", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("policy", ["cascade", "shadow-cascade"])
@pytest.mark.parametrize("streamed", [False, True])
def test_inside_the_grey_zone_the_risk_pass_decides_and_the_answer_begins_anew(
    rig: Rig, policy: str, forward: float, streamed: bool
) -> None:
    rig.script.risk_logit = logit(forward)
    rig.script.steps = lambda _: likeliest_refusal(rig)
    rig.script.says |= {"opening": "unsteered", "answer": "steered"}
    # The second answer's prompt has everything of the first's, whatever vLLM has made of that.
    ask = {"messages": [{"role": "system", "content": "be kind"}, *message(image_part())]}
    if streamed:
        events = rig.stream(policy, **ask)
        found, told = events[-2]["steering"], str(events)
    else:
        body = rig.ask(policy, **ask)
        found, told = body["steering"], str(body)
    assert [kind for kind in rig.script.kinds if kind != "context"] == [
        *("opening", "risk", "risk", "answer")
    ]
    (opening,), (answer,) = rig.script.of("opening"), rig.script.of("answer")
    assert answer.directive is not None
    assert answer.directive.blend == pytest.approx(0.9)
    assert answer.directive.grey_zone is None
    assert opening.messages == answer.messages
    assert "unsteered" not in told
    assert found["coefficient"] == found["risk"] == pytest.approx(0.9)
    assert found["risk_pass"]["forward_risk"] == pytest.approx(forward)
    assert found["risk_pass"]["passes"] == 4
    assert found["risk_pass"]["seconds"] > 0.0
    assert rig.count("steering_risk_passes_total", outcome="ran") == 1
    assert rig.count("steering_requests_total") == 1


@pytest.mark.parametrize("forward", [0.01, 0.19, 0.21, 0.5, 0.79, 0.81, 0.99])
@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_the_share_is_that_of_a_request_that_is_probed_first(
    rig: Rig, forward: float, strength: float
) -> None:
    rig.script.risk_logit = logit(forward)
    rig.script.steps = lambda _: logprobs(3)
    ask = {"strength": strength}
    at_once = rig.ask("cascade", steering=ask)["steering"]
    assert "probe" not in rig.script.kinds
    probed = rig.ask("cascade", steering=ask, n=2)["steering"]
    assert rig.script.kinds[-1] == "answer" and "probe" in rig.script.kinds
    for name in ("coefficient", "risk", "dose"):
        assert at_once[name] == probed[name]
    for name in ("risk", "similarity", "forward_risk"):
        assert at_once["risk_pass"][name] == probed["risk_pass"][name]


@pytest.mark.parametrize(
    ("forward", "passes"), [(0.1, ["probe"]), (0.5, ["probe", "risk"]), (0.9, ["probe"])]
)
def test_one_reading_decides_for_all_choices(rig: Rig, forward: float, passes: list[str]) -> None:
    rig.script.risk_logit = logit(forward)
    found = rig.ask("cascade", n=2)["steering"]["risk_pass"]
    assert rig.script.kinds == [*passes, "answer"]
    assert found["passes"] == len(passes)


def test_a_request_that_is_drafted_is_probed_first(rig: Rig) -> None:
    rig.script.risk_logit = logit(0.9)
    body = rig.ask("cascade", response_format={"type": "json_object"})
    assert rig.script.kinds == ["probe", "draft", "answer"]
    probe, draft, answer = (call.directive for call in rig.script.calls)
    assert probe is not None
    assert (probe.applied_strength, probe.applied_blend, probe.shadow) == (0.0, 0.0, True)
    assert draft == answer is not None and answer.grey_zone is None
    assert body["steering"]["risk_pass"]["passes"] == 1
    rig.ask("shadow-cascade", response_format={"type": "json_object"})
    assert rig.script.kinds[3:] == ["opening"], "in shadow mode nothing is drafted"


def test_the_probe_reads_the_prompt_that_will_be_answered(rig: Rig) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    kwargs = {"enable_thinking": True}
    schema = {"type": "json_object"}
    rig.ask("cascade", tools=[tool], chat_template_kwargs=kwargs, response_format=schema)
    probe, answer = rig.script.of("probe")[0].request, rig.script.of("answer")[0].request
    assert probe.tools == answer.tools
    assert probe.chat_template_kwargs == answer.chat_template_kwargs == kwargs
    assert probe.extract_structured_outputs() is None
    assert rig.script.of("probe")[0].messages == rig.script.of("answer")[0].messages


def test_shadow_measures_the_same_and_adds_nothing(rig: Rig) -> None:
    rig.script.steps = lambda _: likeliest_refusal(rig)
    enforced, shadow = rig.ask("ras")["steering"], rig.ask("shadow-ras")["steering"]
    assert rig.script.kinds == ["risk", "answer"] * 2
    directive = rig.script.calls[-1].directive
    assert directive is not None
    assert (directive.blend, directive.applied_blend) == (0.9, 0.0)
    assert shadow["risk"] == enforced["risk"] == pytest.approx(0.9)
    assert (enforced["rows_verified"], enforced["blended"]) == (1, 1)
    assert (shadow["rows_verified"], shadow["blended"]) == (0, 0)


@pytest.mark.parametrize("key", ["blend", "media", "assessment", "risk", "dose_limit"])
def test_callers_have_no_word_for_what_is_measured(rig: Rig, key: str) -> None:
    with pytest.raises(ApiError) as caught:
        rig.ask("ras", steering={key: 0})
    assert caught.value.code == "invalid_steering"
    with pytest.raises(ApiError) as caught:
        rig.ask("ras", vllm_xargs={"refusal_steering": {key: 0}})
    assert caught.value.param == "vllm_xargs"
    assert not rig.script.calls


def test_a_request_with_mixed_media_takes_the_smallest_cap_and_reports_it(tmp_path: Path) -> None:
    caps = {"image": 0.2, "audio": 0.1, "video": 0.05}
    rules: dict[str, dict[str, Any]] = {
        "capped": {"mode": "enforce", "bundle": "omnisteer", "caps": caps}
    }
    rig = Rig(tmp_path, Script(), rules)
    body = rig.ask("capped", messages=message(audio_part(), image_part()))["steering"]
    assert (body["media"], body["dose_limit"]) == (["image", "audio"], 0.1)
    assert body["dose"] == pytest.approx(0.05)
    assert "risk_pass" not in body
    directive = rig.script.of("answer")[0].directive
    assert directive is not None
    assert (directive.media, directive.dose_limit) == (("image", "audio"), 0.1)
    assert (directive.blend, directive.blend_tokens) == (None, 0)
    assert rig.ask("capped")["steering"]["dose_limit"] is None


def test_an_open_share_is_no_error_in_the_log(tmp_path: Path) -> None:
    Rig(tmp_path, Script())
    logger = logging.getLogger(OpenAIServingChat.__module__)

    def told(error: Exception) -> bool:
        found = (type(error), error, None)
        return bool(logger.filter(logger.makeRecord("vllm", logging.ERROR, "", 0, "", (), found)))

    assert told(SteeringUnavailableError("lost")) and not told(UndecidedRiskError("open"))
