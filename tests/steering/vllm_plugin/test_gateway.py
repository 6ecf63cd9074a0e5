"""The gateway without an engine: nothing passes unproven, nothing of a client's passes at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from vllm import SamplingParams

from refusal_steering.bundle import SteeringBundle
from refusal_steering.directive import EPOCH_KEY, EXTRA_KEY, Directive
from refusal_steering.errors import (
    BundleError,
    DirectiveError,
    SteeringError,
    SteeringUnavailableError,
    UndecidedRiskError,
)
from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from refusal_steering.gate.prompt_tokens import PromptTokens
from refusal_steering.trace import Reading
from refusal_steering.vllm_plugin.gateway import SteeringContext, SteeringGateway, steering_context
from refusal_steering.vllm_plugin.protocols import EngineClient

pytestmark = pytest.mark.anyio
DIRECTIVE = Directive("digest", "policy", "v1", decode_tokens=2)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class FakeEngine:
    """Answers with scripted wire readings, one engine output each."""

    readings: list[list[Any] | None] = field(default_factory=list)
    seen: list[tuple[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    closed: int = 0
    aborted: list[str] = field(default_factory=list)
    fails: Exception | None = None

    def __post_init__(self) -> None:
        self.output_processor = SimpleNamespace(
            request_states={}, process_outputs=lambda outputs: outputs
        )
        parallel = SimpleNamespace(world_size=2, data_parallel_size=1)
        self.vllm_config = SimpleNamespace(parallel_config=parallel)

    async def generate(
        self, prompt: Any, params: Any, request_id: str
    ) -> AsyncGenerator[Any, None]:
        self.seen.append((request_id, params.extra_args))
        state = SimpleNamespace(external_req_id=request_id, request_index=0)
        self.output_processor.request_states[f"{request_id}-internal"] = state
        try:
            if self.fails is not None:
                raise self.fails
            for wire in self.readings:
                fields = {"other": 1} | ({EXTRA_KEY: wire} if wire else {})
                output = SimpleNamespace(
                    request_id=f"{request_id}-internal",
                    new_token_ids=[5],
                    kv_transfer_params=fields,
                )
                self.output_processor.process_outputs([output])
                assert output.kv_transfer_params == {"other": 1}
                yield output
        finally:
            self.closed += 1

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        return self.answers


def guarded(engine: FakeEngine) -> SteeringGateway:
    return SteeringGateway(cast(EngineClient, engine))


def reading(position: int, rows: int) -> list[Any]:
    return Reading(position, (1.0,), 0.0, rows).to_wire()


async def run(
    engine: FakeEngine,
    directive: Directive | None,
    extra: dict[str, Any] | None = None,
    prompt: Any = "hello",
) -> tuple[list[Any], SteeringContext]:
    guarded(engine)
    with steering_context(directive) as context:
        stream = engine.generate(prompt, SamplingParams(extra_args=extra), "id")
    return [output async for output in stream], context


async def test_a_proved_request_passes_and_reports() -> None:
    engine = FakeEngine([reading(9, 1), reading(10, 2), reading(11, 3), None])
    outputs, context = await run(engine, DIRECTIVE)
    assert len(outputs) == 4 and context.traces[0].rows == 3
    assert engine.seen[0][1] == {EXTRA_KEY: DIRECTIVE.to_wire()}
    assert context.traces[0].prompt is None


async def test_a_trace_knows_its_prompt() -> None:
    engine = FakeEngine([reading(9, 1)])
    prompt = {"type": "token", "prompt_token_ids": [7, 8, 9]}
    _, context = await run(engine, DIRECTIVE, prompt=prompt)
    assert context.traces[0].prompt == PromptTokens([7, 8, 9])


@pytest.mark.parametrize(
    "readings",
    [
        [None],
        [Reading.failed("no slot").to_wire()],
        [reading(9, 0)],
        [reading(9, 1), None],
        [["damaged"]],
    ],
)
async def test_an_unproved_request_ends_with_an_error(readings: list[Any]) -> None:
    engine = FakeEngine(readings)
    with pytest.raises(SteeringUnavailableError):
        await run(engine, DIRECTIVE)
    assert engine.closed == 1, "the engine's generation must be ended too"


ZONED = Directive("d", "p", "v", blend=0.9, blend_tokens=1, grey_zone=(0.2, 0.8), decode_tokens=0)


async def test_an_open_share_ends_a_whole_answer_at_its_first_token() -> None:
    """vLLM gives such an answer out in one piece, at its end."""
    engine = FakeEngine()
    hangs = asyncio.Event()

    async def whole(prompt: Any, params: Any, request_id: str) -> AsyncGenerator[Any, None]:
        state = SimpleNamespace(external_req_id=request_id, request_index=0)
        engine.output_processor.request_states["internal"] = state
        wire = Reading(9, (0.0,), 0.0, 1, blended=0).to_wire()
        output = SimpleNamespace(
            request_id="internal", new_token_ids=[5], kv_transfer_params={EXTRA_KEY: wire}
        )
        engine.output_processor.process_outputs([output])
        try:
            await hangs.wait()
            yield output
        finally:
            engine.closed += 1

    engine.generate = whole  # type: ignore[method-assign]
    guarded(engine)
    with steering_context(ZONED):
        stream = engine.generate("hello", SamplingParams(), "id")
    with pytest.raises(UndecidedRiskError):
        await asyncio.wait_for(anext(stream), 5)
    assert engine.closed == 1 and engine.aborted == ["id"]


@pytest.mark.parametrize("logit", [-3.0, 3.0])
async def test_a_share_that_was_set_passes(logit: float) -> None:
    wire = Reading(9, (0.0,), logit, 1, blended=1).to_wire()
    outputs, context = await run(FakeEngine([wire, None, None]), ZONED)
    assert len(outputs) == 3 and context.error is None


async def test_a_caller_that_leaves_ends_the_generation_of_an_open_share() -> None:
    engine = FakeEngine([Reading(9, (0.0,), 3.0, 1, blended=1).to_wire(), None])
    guarded(engine)
    with steering_context(ZONED):
        stream = engine.generate("hello", SamplingParams(), "id")
    await anext(stream)
    await stream.aclose()
    assert engine.closed == 1 and engine.aborted == ["id"]


async def test_an_unsteered_request_is_left_alone() -> None:
    outputs, context = await run(FakeEngine([None, None]), None, {"mine": 1})
    assert len(outputs) == 2 and context.traces == []


async def test_a_clients_directive_is_stripped_and_its_object_kept() -> None:
    engine = FakeEngine([None])
    extra = {EXTRA_KEY: {"strength": 9.0}, "mine": 1}
    await run(engine, None, extra)
    assert engine.seen[0][1] == {"mine": 1}
    assert EXTRA_KEY in extra, "the caller's own parameters are not changed"


async def test_the_context_counts_when_generation_is_asked_for() -> None:
    engine = FakeEngine([None])
    guarded(engine)
    plain = engine.generate("hello", SamplingParams(), "id")
    with steering_context(DIRECTIVE):
        assert len([output async for output in plain]) == 1


async def test_two_live_requests_never_share_an_id() -> None:
    engine = FakeEngine([reading(9, 1)])
    guarded(engine)
    with steering_context(DIRECTIVE):
        first = engine.generate("a", SamplingParams(), "same")
    second = engine.generate("b", SamplingParams(), "same")
    await anext(first)
    await anext(second)
    (one, _), (two, _) = engine.seen
    assert one != two
    await first.aclose()
    await second.aclose()


async def test_streamed_prompts_are_refused() -> None:
    engine = FakeEngine([])
    guarded(engine)

    async def parts() -> AsyncGenerator[str, None]:
        yield "part"

    with steering_context(DIRECTIVE), pytest.raises(DirectiveError, match="streamed"):
        engine.generate(parts(), SamplingParams(), "id")


def answer(rank: int, **changes: Any) -> dict[str, Any]:
    base = {"rank": rank, "error": None, "bundles": ["d"], "policy_version": "v2", "code": ""}
    return {**base, **changes}


BUNDLE = SteeringBundle(None, {}, None, "d", b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([answer(0)], SteeringError),
        ([answer(0), answer(1, bundles=[])], SteeringError),
        ([answer(0), answer(1, error="damaged", code="invalid_bundle")], BundleError),
    ],
)
async def test_a_bundle_is_loaded_by_every_rank_or_not_at_all(
    answers: list[dict[str, Any]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await guarded(FakeEngine(answers=answers)).load(BUNDLE)


async def epochs(engine: FakeEngine, gateway: SteeringGateway) -> Any:
    """The epoch that an unsteered request is stamped with now."""
    engine.readings = [None]
    async for _ in gateway.generate("hello", SamplingParams(extra_args={EPOCH_KEY: 9}), "id"):
        pass
    return (engine.seen[-1][1] or {}).get(EPOCH_KEY)


async def test_every_request_carries_the_epoch_of_the_gates() -> None:
    def probe(bias: float) -> PromptGate:
        probes = {1: TokenProbe.maximum(torch.ones(2), bias)}
        return PromptGate(probes, "max", threshold=0.0, width=1.0)

    plain, first, again, other = (
        SteeringBundle(None, {}, None, name, b"", gate)  # type: ignore[arg-type]
        for name, gate in (("p", None), ("a", probe(0)), ("b", probe(0)), ("c", probe(1)))
    )
    engine = FakeEngine()
    gateway = guarded(engine)

    async def load(bundle: SteeringBundle, *held: str) -> Any:
        engine.answers = [answer(0, bundles=[*held]), answer(1, bundles=[*held, "late"])]
        await gateway.load(bundle)
        return await epochs(engine, gateway)

    assert await epochs(engine, gateway) is None
    assert await load(plain, "p") is None, "without a gate nothing is stamped"
    assert await load(first, "p", "a") == 1
    assert await load(first, "p", "a") == 1
    assert await load(again, "a", "b") == 1, "another bundle with the same gate reads nothing new"
    assert await load(other, "a", "b", "c") == 2
    engine.answers = [answer(0, bundles=["c"]), answer(1, bundles=["b", "c"])]
    await gateway.retire(["c"])
    assert await load(first, "a", "c") == 3, "nothing was read while the gate was gone"


async def test_every_rank_must_have_the_policy_version() -> None:
    both = FakeEngine(answers=[answer(0), answer(1)])
    await guarded(both).acknowledge("v2", ["d"])
    lagging = FakeEngine(answers=[answer(0), answer(1, policy_version="v1")])
    with pytest.raises(SteeringError, match="every rank"):
        await guarded(lagging).acknowledge("v2", ["d"])


async def test_every_rank_must_have_the_same_form_of_the_operator() -> None:
    answers = [answer(0, operator="triton"), answer(1, operator="triton")]
    gateway = guarded(FakeEngine(answers=answers))
    await gateway.acknowledge("v2", ["d"])
    assert gateway.operator == "triton"
    answers[1]["operator"] = "torch"
    with pytest.raises(SteeringError, match=r"found: torch, triton"):
        await gateway.acknowledge("v2", ["d"])


async def test_an_output_that_cannot_be_traced_to_its_request_is_withheld() -> None:
    engine = FakeEngine([reading(9, 1)])
    guarded(engine)
    with steering_context(DIRECTIVE):
        stream = engine.generate("hello", SamplingParams(), "id")
    engine.output_processor.request_states = _Forgetful()
    with pytest.raises(SteeringUnavailableError, match="no reading"):
        [output async for output in stream]


class _Forgetful(dict[str, Any]):
    def get(self, key: str, default: Any = None) -> Any:
        return default


@pytest.mark.parametrize(
    "error",
    [
        UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates"),
        OverflowError("int"),
        RecursionError(),
    ],
)
async def test_a_request_that_fails_on_its_way_gives_its_slot_back(error: Exception) -> None:
    engine = FakeEngine(fails=error)
    with pytest.raises(type(error)):
        await run(engine, None)
    assert engine.aborted == [engine.seen[0][0]]


async def test_a_request_that_is_left_gives_its_slot_back_and_one_that_ends_has_none() -> None:
    engine = FakeEngine([reading(9, 1), reading(10, 2)])
    guarded(engine)
    with steering_context(DIRECTIVE):
        stream = engine.generate("hello", SamplingParams(), "left")
    await anext(stream)
    await stream.aclose()
    assert engine.aborted == ["left"]
    engine = FakeEngine([reading(9, 1)])
    await run(engine, DIRECTIVE)
    assert engine.aborted == []
