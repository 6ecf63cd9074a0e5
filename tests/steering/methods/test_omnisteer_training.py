"""Laws of the paper's adapters: the zero start, the target, the clamp and the balance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import ActivationFile, ActivationFileError
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.golden import GoldenError
from refusal_steering.methods.omnisteer_presets import QWEN, SCALE_FREE, Preset
from refusal_steering.methods.omnisteer_training import (
    Training,
    TrainingError,
    as_steering,
    balanced,
    fresh_adapter,
    train_layer,
    train_layers,
)
from refusal_steering.methods.risk_probe import with_trained_probe
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec

SIZE = 24
NORM = 12.0
HOW = Training(width=16, epochs=20, batch_size=16, weight_decay=0.0)


def vector(norm: float = NORM) -> Tensor:
    direction = torch.zeros(SIZE)
    direction[:2] = torch.tensor([3.0, 4.0])
    return norm * direction / 5.0


def clusters(harmful: int = 120, harmless: int = 60) -> tuple[Tensor, Tensor]:
    """Rows [N, H]: the classes differ along axis 2, which the refusal vector does not have."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(harmful + harmless) < harmful
    hidden = 0.3 * torch.randn(harmful + harmless, SIZE, generator=generator)
    hidden[:, 2] += torch.where(labels, 4.0, -4.0)
    return hidden, labels


def coefficient(vector: Tensor, hidden: Tensor, harmful: Tensor, how: Training) -> float:
    """Mean coefficient of harmful rows; 0 where training gives nothing that earns."""
    try:
        facts = train_layer(vector, hidden, harmful, how).facts
    except TrainingError as error:
        assert "earns nothing" in str(error)
        return 0.0
    return facts.projection_after - facts.projection_before


def test_a_fresh_adapter_gives_exactly_zero() -> None:
    network = fresh_adapter(SIZE, 16, seed=3)
    hidden = torch.randn(50, SIZE) * 100
    assert torch.equal(network(hidden), torch.zeros(50, 1))
    steering = as_steering(network, vector() / NORM, NORM, k_max=10.0)
    assert torch.equal(steering.coefficient(hidden), torch.zeros(50))


def test_a_fresh_adapter_leaves_the_model_bit_identical(target: CalibrationModel) -> None:
    direction = torch.ones(32) / 32**0.5
    fresh = as_steering(fresh_adapter(32, 16, seed=0), direction, 1.0, k_max=10.0)
    inputs = {"input_ids": torch.tensor([target.encode("one two three")])}
    spec = SteeringSpec({1: fresh, 2: fresh}, hold=False)
    plain, steered = greedy(target.model, inputs, 4), greedy(target.model, inputs, 4, spec)
    assert plain.tokens == steered.tokens
    assert all(torch.equal(a, b) for a, b in zip(plain.logprobs, steered.logprobs, strict=True))


def test_the_first_layer_starts_kaiming_uniform_and_by_seed() -> None:
    """Uniform with a = sqrt(5) lies within 1 / sqrt(H) and has its variance."""
    weight = as_steering(fresh_adapter(64, 512, seed=1), vector(), 1.0, 1.0).input_weight
    assert float(weight.abs().max()) <= 1 / 8
    assert float(weight.var()) == pytest.approx((1 / 8) ** 2 / 3, rel=0.03)
    again = as_steering(fresh_adapter(64, 512, seed=1), vector(), 1.0, 1.0).input_weight
    other = as_steering(fresh_adapter(64, 512, seed=2), vector(), 1.0, 1.0).input_weight
    assert torch.equal(weight, again) and not torch.equal(weight, other)


@pytest.mark.parametrize("preset", [SCALE_FREE, QWEN])
def test_harmful_rows_reach_the_threshold_and_harmless_rows_earn_nothing(preset: Preset) -> None:
    hidden, harmful = clusters()
    done = train_layer(vector(), hidden, harmful, replace(HOW, preset=preset))
    unit = vector() / NORM
    k = done.steering.coefficient(hidden)
    reached = ((hidden + k.unsqueeze(-1) * done.steering.direction) @ unit)[harmful]
    assert float(reached.mean()) == pytest.approx(0.3 * NORM, rel=0.25)
    assert done.facts.projection_after == pytest.approx(float(reached.mean()), rel=1e-4)
    assert done.facts.fires_harmful > 0.95 and done.facts.fires_harmless == 0.0
    assert torch.allclose(done.steering.direction, unit)


def test_coefficients_are_never_negative_and_never_above_k_max() -> None:
    hidden, harmful = clusters()
    done = train_layer(vector(), hidden, harmful, replace(HOW, k_max=1.5))
    raw = replace(done.steering, floor=-torch.inf, ceiling=torch.inf).coefficient(hidden)
    k = done.steering.coefficient(hidden)
    assert float(raw[~harmful].max()) < 0.0 and float(raw.max()) > 1.5
    assert torch.equal(k, raw.clamp(0.0, 1.5))
    assert (done.steering.floor, done.steering.ceiling) == (0.0, 1.5)


def test_without_k_max_the_ceiling_is_the_largest_coefficient_of_a_harmful_row() -> None:
    hidden, harmful = clusters()
    steering = train_layer(vector(), hidden, harmful, HOW).steering
    raw = replace(steering, floor=-torch.inf, ceiling=torch.inf).coefficient(hidden)
    assert steering.ceiling == pytest.approx(float(raw[harmful].max()), rel=1e-5)


def test_long_vectors_kill_the_published_loss_but_not_the_scale_free_one() -> None:
    """Trap 5 in training: with N = 400 the published adapter earns nothing worth having."""
    hidden, harmful = clusters()
    assert coefficient(vector(400.0), hidden, harmful, HOW) > 0.2 * 400.0
    assert coefficient(vector(400.0), hidden, harmful, replace(HOW, preset=QWEN)) < 0.01 * 400.0


def test_centred_thresholds_do_not_see_a_common_offset() -> None:
    hidden, harmful = clusters()
    shifted = hidden + 10.0 * vector() / NORM
    centred = replace(HOW, preset=replace(SCALE_FREE, centred=True))
    here, there = (train_layer(vector(), rows, harmful, centred) for rows in (hidden, shifted))
    assert there.facts.offset - here.facts.offset == pytest.approx(10.0, abs=1e-3)
    assert there.facts.fires_harmful > 0.95
    assert coefficient(vector(), shifted, harmful, HOW) < 0.2 * coefficient(
        vector(), shifted, harmful, centred
    )


@pytest.mark.parametrize(("bad", "good"), [(7, 3), (3, 7), (4, 4)])
def test_balance_repeats_the_rarer_class_evenly(bad: int, good: int) -> None:
    harmful = torch.arange(bad + good) < bad
    items = balanced(harmful)
    assert int(harmful[items].sum()) == int((~harmful[items]).sum()) == max(bad, good)
    counts = torch.bincount(items, minlength=bad + good)
    for mask in (harmful, ~harmful):
        assert int(counts[mask].min()) >= 1
        assert int(counts[mask].max()) - int(counts[mask].min()) <= 1


def test_same_seed_same_adapter() -> None:
    hidden, harmful = clusters()
    one, same = (train_layer(vector(), hidden, harmful, HOW).steering for _ in range(2))
    other = train_layer(vector(), hidden, harmful, replace(HOW, seed=1)).steering
    assert torch.equal(one.input_weight, same.input_weight)
    assert not torch.equal(one.input_weight, other.input_weight)


def test_layers_train_on_their_own() -> None:
    hidden, harmful = clusters()
    both = train_layers({1: vector(), 2: vector(9.0)}, {1: hidden, 2: 2 * hidden}, harmful, HOW)
    alone = train_layers({2: vector(9.0)}, {2: 2 * hidden}, harmful, HOW)
    assert torch.equal(both[2].steering.input_weight, alone[2].steering.input_weight)


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (torch.ones(4, SIZE + 1), [True, False] * 2, "shape"),
        (torch.ones(3, SIZE), [True, False] * 2, "shape"),
        (torch.full((4, SIZE), torch.nan), [True, False] * 2, "NaN"),
        (torch.ones(4, SIZE), [True] * 4, "needs both"),
        (torch.ones(4, SIZE), [False] * 4, "needs both"),
    ],
)
def test_useless_rows_are_refused(rows: Tensor, labels: list[bool], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        train_layer(vector(), rows, torch.tensor(labels), HOW)


def test_missing_rows_a_bad_k_max_and_a_basis_vector_are_refused() -> None:
    hidden, harmful = clusters()
    with pytest.raises(TrainingError, match="no rows of layer 2"):
        train_layers({2: vector()}, {1: hidden}, harmful, HOW)
    with pytest.raises(TrainingError, match="k_max"):
        train_layer(vector(), hidden, harmful, replace(HOW, k_max=-1.0))
    with pytest.raises(GoldenError, match="alone"):
        train_layer(torch.eye(SIZE)[0], hidden, harmful, HOW)


def test_the_probe_reads_the_first_layer_and_separates_the_classes() -> None:
    hidden, harmful = clusters()
    count = len(harmful)
    file = ActivationFile(
        rows={1: hidden, 2: hidden},
        harmful=harmful,
        groups=("text",) * count,
        splits=("train",) * count,
        model=ModelIdentity(id="tiny", hidden_size=SIZE, num_layers=4),
        prompts_sha256="0" * 64,
    )
    layers = {at: LayerSteering.static(vector() / NORM, 1.0) for at in (1, 2)}
    probed = with_trained_probe(layers, file)
    assert torch.equal(probed[1].risk_logit(hidden) > 0, harmful)
    assert not probed[2].risk_weight.any()
    with pytest.raises(ActivationFileError, match="harmful and harmless"):
        with_trained_probe(layers, replace(file, harmful=torch.ones(count, dtype=torch.bool)))
