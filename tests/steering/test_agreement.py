"""Reference, offline batch and worker steer alike: windows, media, and a dose limit that binds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refusal_steering.bundle import SteeringBundle, make_bundle, save_bundle
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.batched import BatchSteering, batch_steered
from refusal_steering.calibration.canary import choose_canary
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.reference import Generated, greedy
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.spec import SteeringSpec
from refusal_steering.trace import Reading

SIZE, UNITS, DEPTH = 32, 4, 4
STEPS, ROWS = 4, 64
PROMPTS = (
    "one two three",
    "five six seven eight nine ten",
    "eleven twelve",
    "red green blue yellow",
    "the end",
)
# Float32 in another order of summation: of log-probabilities, and of coefficients up to 20.
TOLERANCE = 1e-3


def layers() -> dict[int, LayerSteering]:
    """Two adapters with offsets, wide apart enough in what they earn to straddle a limit."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def layer() -> LayerSteering:
        direction = normal(SIZE)
        return LayerSteering(
            direction=direction / direction.norm(),
            input_weight=normal(UNITS, SIZE),
            input_bias=normal(UNITS),
            output_weight=normal(UNITS),
            output_bias=0.5,
            floor=-20.0,
            ceiling=20.0,
            risk_weight=normal(SIZE),
            risk_bias=0.1,
            offsets={"image": normal(3, SIZE), "video": normal(SIZE)},
        )

    return {1: layer(), 2: layer()}


LAYERS = layers()
# One radius that binds for some rows, one that does not.
BALLS = {at: Ball(-3.0 * LAYERS[at].direction, radius) for at, radius in ((1, 3.0), (2, 1e4))}
BALLED = {at: replace(layer, ball=BALLS[at]) for at, layer in LAYERS.items()}


def bundle_of(steering: Mapping[int, LayerSteering]) -> SteeringBundle:
    model = {"id": "tiny", "hidden_size": SIZE, "num_layers": DEPTH}
    return make_bundle(steering, {"name": "a", "strategy": "omnisteer", "model": model})


class Worker:
    """The worker's steering on a copy of the model: every forward pass is an engine step."""

    def __init__(self, target: CalibrationModel, bundle: SteeringBundle, graph_rows: int):
        self._model = copy.deepcopy(target.model)
        decoder = self._model.get_decoder().layers
        self._steering = ResidualSteering(
            {index: DecoderLayer(decoder[index], None) for index in bundle.layers},
            hidden_size=SIZE,
            num_layers=DEPTH,
            capacity=Capacity(
                bundle_slots=1,
                units=UNITS,
                requests=4,
                tokens=ROWS,
                graph_rows=graph_rows,
                balls=any(layer.ball for layer in bundle.layers.values()),
            ),
            device=torch.device("cpu"),
        )
        self._steering.load(bundle.packed)

    @torch.inference_mode()
    def play(self, ids: list[int], directive: Directive) -> Generated:
        """Greedy answer to one prompt, with the coefficients that were read off the device."""
        self._steering.admit("r", ids, directive.to_wire())
        past, feed, computed = None, torch.tensor([ids]), 0
        played = Generated([], [], {index: {} for index in self._steering.layers})
        for _ in range(STEPS):
            self._steering.begin(["r"], [computed], [feed.shape[1]])
            output = self._model(input_ids=feed, past_key_values=past, use_cache=True)
            past, computed = output.past_key_values, computed + feed.shape[1]
            self._note(played.coefficients)
            played.logprobs.append(output.logits[0, -1].float().log_softmax(-1))
            played.tokens.append(int(played.logprobs[-1].argmax()))
            feed = torch.tensor([played.tokens[-1:]])
        self._steering.release(["r"])
        return played

    def _note(self, coefficients: dict[int, dict[int, float]]) -> None:
        collect_readings = self._steering.read()
        for wire in (collect_readings() if collect_readings else {}).values():
            reading = Reading.from_wire(wire)
            assert reading.failure is None
            for index, value in zip(self._steering.layers, reading.coefficients, strict=True):
                coefficients[index][reading.position] = value


def straddling_limit(target: CalibrationModel, spec: SteeringSpec) -> float:
    """A dose limit that binds for half of the prompts at the first layer, by their plain rows."""
    first = min(spec.layers)
    rows = collect(target, PROMPTS, [first])[first]
    earned = spec.layers[first].coefficient(rows, spec.media)
    doses = spec.strength * earned.abs() / rows.norm(dim=-1)
    limit = float(doses.median()) * 1.01
    assert 0 < int((doses > limit).sum()) < len(PROMPTS)
    return limit


SPECS = (
    SteeringSpec(LAYERS),
    SteeringSpec(LAYERS, hold=False, strength=0.5),
    SteeringSpec(LAYERS, decode_tokens=2, hold=False, media=("image",)),
    SteeringSpec(LAYERS, decode_tokens=0, media=("audio", "image", "video"), strength=1.5),
    SteeringSpec(LAYERS, hold=False, shadow=True, strength=2.0, media=("video",)),
    SteeringSpec(LAYERS, hold=False, media=("image", "video", "image")),
    SteeringSpec(LAYERS, media=("image",) * 7),
    SteeringSpec(BALLED, hold=False, media=("image", "image")),
)


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal log-probabilities, but for rounding."""
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def about(expected: Any) -> Any:
    """Coefficients, but for rounding."""
    return pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


@pytest.fixture(params=range(len(SPECS)))
def spec(request: pytest.FixtureRequest) -> SteeringSpec:
    return SPECS[request.param]


@pytest.fixture(params=[False, True], ids=["free", "limited"])
def limited(
    request: pytest.FixtureRequest, target: CalibrationModel, spec: SteeringSpec
) -> SteeringSpec:
    """The spec, without and with a dose limit that binds for some rows and not for others."""
    if not request.param:
        return spec
    return replace(spec, dose_limit=straddling_limit(target, spec))


def reference(target: CalibrationModel, prompt: str, spec: SteeringSpec) -> Generated:
    return greedy(target.model, {"input_ids": torch.tensor([target.encode(prompt)])}, STEPS, spec)


@pytest.mark.parametrize("graph_rows", [0, ROWS])
def test_the_worker_equals_the_reference(
    target: CalibrationModel, limited: SteeringSpec, graph_rows: int
) -> None:
    bundle = bundle_of(limited.layers)
    worker = Worker(target, bundle, graph_rows)
    directive = limited.directive(bundle.digest, "policy", "v1")
    for prompt in PROMPTS:
        expected = reference(target, prompt, limited)
        played = worker.play(target.encode(prompt), directive)
        assert played.tokens == expected.tokens
        torch.testing.assert_close(torch.stack(played.logprobs), torch.stack(expected.logprobs))
        for index, by_position in expected.coefficients.items():
            assert played.coefficients[index] == about(by_position)


def test_a_batch_equals_the_reference(target: CalibrationModel, limited: SteeringSpec) -> None:
    """Left-padded prompts of several lengths at once: each last prompt token's coefficients."""
    for batch in target.batches(PROMPTS, len(PROMPTS)):
        state = BatchSteering(limited)
        with torch.inference_mode(), batch_steered(target.decoder_layers, state):
            logits = target.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.positions,
                past_key_values=batch.take_prefix(),
                use_cache=True,
            ).logits[:, -1]
        for place, row in enumerate(batch.rows):
            expected = reference(target, PROMPTS[row], limited)
            same(logits[place].float().log_softmax(-1), expected.logprobs[0])
            for index, by_position in expected.coefficients.items():
                earned = by_position[min(by_position)]
                assert float(state.coefficients[index][place, 0]) == about(earned)


def test_one_pass_over_an_answer_equals_the_reference(
    target: CalibrationModel, limited: SteeringSpec
) -> None:
    """Every row of the window in a single pass, as refinement plays it."""
    for prompt in PROMPTS:
        expected = reference(target, prompt, limited)
        state = BatchSteering(limited, step=STEPS - 1)
        ids = target.encode(prompt)
        with torch.inference_mode(), batch_steered(target.decoder_layers, state):
            logits = target.model(torch.tensor([[*ids, *expected.tokens[:-1]]])).logits[0]
        found = logits[len(ids) - 1 :].float().log_softmax(-1)
        same(found, torch.stack(expected.logprobs))
        for index, by_position in expected.coefficients.items():
            earned = state.coefficients[index][0]
            wanted = [by_position[at] for at in sorted(by_position)]
            held = earned.expand(len(wanted)) if limited.hold else earned
            assert held.tolist() == about(wanted)


def test_the_limit_binds_for_some_rows_and_not_for_others(target: CalibrationModel) -> None:
    """At the first layer both read the same rows, so the limit alone makes the difference."""
    first, free = min(LAYERS), SteeringSpec(LAYERS, strength=1.5)
    bound = replace(free, dose_limit=straddling_limit(target, free))
    rows = collect(target, PROMPTS, [first])[first]
    changed = 0
    for prompt, row in zip(PROMPTS, rows, strict=True):
        start = len(target.encode(prompt)) - 1
        without, kept = (
            reference(target, prompt, spec).coefficients[first][start] for spec in (free, bound)
        )
        most = bound.dose_limit / bound.strength * float(row.norm())  # type: ignore[operator]
        assert kept == about(max(-most, min(most, without)))
        changed += kept != about(without)
    assert 0 < changed < len(PROMPTS)


@pytest.mark.parametrize("hold", [True, False])
def test_media_offsets_and_the_limit_change_what_is_earned(
    target: CalibrationModel, hold: bool
) -> None:
    """Agreement says nothing where a term has no effect: each of these has one."""
    plain = SteeringSpec(LAYERS, hold=hold)
    one, two = (replace(plain, media=("image",) * count) for count in (1, 2))
    for before, changed in (
        (plain, one),
        (one, two),
        (plain, replace(plain, dose_limit=0.05)),
        (plain, replace(plain, layers=BALLED)),
    ):
        a, b = (reference(target, PROMPTS[-1], spec).coefficients[1] for spec in (before, changed))
        assert a.keys() == b.keys() and a != pytest.approx(b, rel=1e-2)


def test_a_canary_measured_under_the_limit_is_what_the_worker_does(
    target: CalibrationModel, tmp_path: Path
) -> None:
    """The expectation in the manifest and the boot's directive come from the same spec."""
    strong = {at: LayerSteering.static(layer.direction, 40.0) for at, layer in LAYERS.items()}
    spec = SteeringSpec(strong, dose_limit=0.4)
    canary = choose_canary(target, PROMPTS, spec)
    model = {"id": "tiny", "hidden_size": SIZE, "num_layers": DEPTH}
    manifest = {"name": "c", "strategy": "static", "model": model, "canary": canary}
    saved = save_bundle(tmp_path, strong, {**manifest, **spec.manifest_terms})
    worker, ids = Worker(target, saved, 0), list(canary.token_ids)

    def moved(asked: SteeringSpec) -> dict[str, float]:
        directives = [s.directive(saved.digest, "canary", "canary") for s in (asked.silent, asked)]
        plain, steered = (worker.play(ids, directive).logprobs[0] for directive in directives)
        return {token: float(steered[int(token)] - plain[int(token)]) for token in canary.shift}

    boot = SteeringSpec.of(saved).canary
    assert moved(boot) == pytest.approx(dict(canary.shift), abs=1e-3)
    assert moved(replace(boot, dose_limit=None)) != pytest.approx(dict(canary.shift), abs=0.1)
