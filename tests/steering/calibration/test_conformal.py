"""The conformal guarantee, checked by simulation on held-out splits."""

from __future__ import annotations

import pytest
import torch

from refusal_steering.calibration.conformal import budget_threshold
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError
from refusal_steering.methods.gate import gate_scores, within_budget


@pytest.mark.parametrize("budget", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("count", [60, 77, 400])
def test_a_new_request_exceeds_the_threshold_at_most_as_often_as_allowed(
    budget: float, count: int
) -> None:
    generator = torch.Generator().manual_seed(7)
    shares = []
    for _ in range(1500):
        scores = torch.randn(count + 100, generator=generator).exp()
        threshold = budget_threshold(scores[:count], budget)
        share = float((scores[count:] > threshold.value).float().mean())
        shares.append(share)
    assert sum(shares) / len(shares) <= budget + 0.002, "marginally, over calibration sets"
    tail = 1.0 / (count + 1)
    assert sum(shares) / len(shares) >= budget - tail - 0.004, "and no more careful than it must be"


def test_the_confidence_bound_holds_for_most_calibration_sets() -> None:
    generator = torch.Generator().manual_seed(8)
    uniform = [torch.rand(77, generator=generator) for _ in range(3000)]
    found = [budget_threshold(scores, 0.05) for scores in uniform]
    # Scores are uniform, so the true share above a threshold is known without sampling.
    kept = sum(1.0 - t.value <= t.worst_share for t in found) / len(found)
    assert kept == pytest.approx(0.95, abs=0.015)


def test_too_few_requests_cannot_promise_anything() -> None:
    with pytest.raises(SteeringError, match="at least 49"):
        budget_threshold(torch.randn(30), 0.02)
    budget_threshold(torch.randn(49), 0.02)


def layers() -> dict[int, LayerSteering]:
    generator = torch.Generator().manual_seed(3)
    made = {}
    for index in (1, 2):
        made[index] = LayerSteering(
            direction=torch.nn.functional.one_hot(torch.tensor(0), 8).float(),
            input_weight=torch.randn(5, 8, generator=generator),
            input_bias=torch.randn(5, generator=generator),
            output_weight=torch.randn(5, generator=generator),
            output_bias=0.5,
            floor=0.0,
            ceiling=2.0,
            risk_weight=torch.zeros(8),
            risk_bias=0.0,
        )
    return made


def test_the_gate_is_the_union_of_the_layers() -> None:
    made = layers()
    rows = {index: torch.randn(300, 8) for index in made}
    touched = torch.stack([made[i].coefficient(rows[i]) > 0 for i in made]).any(0)
    assert torch.equal(gate_scores(made, rows) > 0, touched)


def test_moved_layers_touch_exactly_what_the_budget_leaves() -> None:
    made = layers()
    harmless_tuning = {index: torch.randn(199, 8) for index in made}
    moved, threshold = within_budget(made, harmless_tuning, 0.05)
    touched = torch.stack([moved[i].coefficient(harmless_tuning[i]) > 0 for i in made]).any(0)
    assert int(touched.sum()) == 199 - 190 and threshold.count == 199
