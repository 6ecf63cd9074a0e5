"""A risk pass that fails, or that its caller leaves, ends the request: nothing fails open."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from vllm.exceptions import QueueOverflowError, VLLMValidationError

from refusal_server.chat.risk.judge import check_engine
from refusal_server.errors import ApiError
from refusal_steering.errors import SteeringUnavailableError, UnsupportedEngineError
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.media import image_part, message
from tests.server.fixtures.scripted import (
    UNIFORM,
    Call,
    Rig,
    Script,
)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, Script())


# What makes a cascade pass each of its kinds of requests.
PASSED: dict[str, dict[str, Any]] = {"opening": {}, "context": {}, "risk": {}, "probe": {"n": 2}}
PASSES = ("context", "risk", "probe")


@pytest.mark.parametrize("kind", PASSED)
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_client_that_leaves_ends_its_passes(rig: Rig, kind: str, swallowed: bool) -> None:
    """Also where vLLM takes the cancellation for an error to answer with."""
    ended, picture = [], message(image_part())

    async def run() -> None:
        async def hang(call: Call) -> None:
            if call.kind == kind:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    ended.append(call.kind)
                    if not swallowed:
                        raise

        rig.script.before = hang
        task = asyncio.create_task(rig.answer("cascade", messages=picture, **PASSED[kind]))
        while kind not in rig.script.kinds:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Now, not when the loop closes and cancels what was forgotten.
        await asyncio.sleep(0.01)
        assert set(ended) == {kind}

    asyncio.run(run())
    assert not rig.script.of("answer")
    assert rig.count("steering_requests_total", outcome="aborted") == 1


@pytest.mark.parametrize("kind", PASSES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_pass_ends_the_request(rig: Rig, kind: str, stream: bool) -> None:
    rig.script.says[kind] = RuntimeError("secret")
    with pytest.raises(ApiError) as caught:
        rig.ask("cascade", messages=message(image_part()), stream=stream, **PASSED[kind])
    assert (caught.value.status, caught.value.code) == (503, "steering_unavailable")
    assert "secret" not in caught.value.message
    assert not rig.script.of("answer")
    assert rig.count("steering_risk_passes_total", outcome="failed") == 1
    assert rig.count("steering_requests_total", outcome="error") == 1
    assert rig.count("steering_failures_total") == 1
    # What failed is not remembered.
    del rig.script.says[kind]
    rig.ask("cascade", messages=message(image_part()), **PASSED[kind])
    assert len(rig.script.of("answer")) == 1


@pytest.mark.parametrize("steps", [[], [{}], [UNIFORM, {}]])
def test_a_pass_without_logprobs_ends_the_request(rig: Rig, steps: list[dict[int, float]]) -> None:
    rig.script.steps = lambda _: steps
    with pytest.raises(ApiError) as caught:
        rig.ask("ras")
    assert caught.value.code == "steering_unavailable"
    assert not rig.script.of("answer")


@pytest.mark.parametrize("kind", ["opening", "probe"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_forward_pass_without_a_risk_ends_the_request(rig: Rig, kind: str, stream: bool) -> None:
    rig.script.risk_logit = math.nan
    with pytest.raises(ApiError) as caught:
        rig.ask("cascade", stream=stream, **PASSED[kind])
    assert caught.value.code == "steering_unavailable"
    assert rig.script.kinds == [kind]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_passed_no_gateway_is_withheld(rig: Rig, stream: bool) -> None:
    """Nothing was read of it, so nothing has set its share."""
    rig.script.measures = False
    with pytest.raises(ApiError) as caught:
        rig.ask("cascade", stream=stream)
    assert caught.value.code == "steering_unavailable"
    assert rig.script.kinds == ["opening"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (VLLMValidationError("no", parameter="messages"), 400, "invalid_request"),
        (ValueError("This model's maximum context length is 5"), 400, "context_length_exceeded"),
        (QueueOverflowError(), 503, "server_overloaded"),
    ],
)
def test_a_callers_fault_and_a_full_queue_keep_their_names(
    rig: Rig, error: Exception, status: int, code: str
) -> None:
    rig.script.says["risk"] = error
    with pytest.raises(ApiError) as caught:
        rig.ask("ras")
    assert (caught.value.status, caught.value.code) == (status, code)
    assert not rig.script.of("answer")


def test_a_request_that_was_never_assessed_has_no_directive(rig: Rig) -> None:
    call = asyncio.run(rig.admit("ras"))
    with pytest.raises(SteeringUnavailableError, match="never assessed"):
        _ = call.choice.directive
    assert call.choice.probe is not None


def test_a_prompt_that_is_cut_cannot_be_assessed(rig: Rig) -> None:
    with pytest.raises(ApiError) as caught:
        rig.ask("shadow-ras", truncate_prompt_tokens=5)
    assert caught.value.param == "truncate_prompt_tokens"
    rig.ask("off", truncate_prompt_tokens=5)


class _Config:
    max_logprobs = 20
    logprobs_mode = "raw_logprobs"


def test_an_engine_that_cannot_tell_is_refused(tmp_path: Path) -> None:
    blending = write_bundle(tmp_path / "ras", strategy="ras", hidden=8)
    plain = write_bundle(tmp_path / "static", hidden=8)
    config: Any = _Config()
    check_engine(config, blending)
    config.max_logprobs = -1
    check_engine(config, blending)
    config.max_logprobs = 19
    check_engine(config, plain)
    with pytest.raises(UnsupportedEngineError, match="max-logprobs"):
        check_engine(config, blending)
    config.max_logprobs, config.logprobs_mode = 20, "processed_logits"
    with pytest.raises(UnsupportedEngineError, match="logprobs-mode"):
        check_engine(config, blending)
