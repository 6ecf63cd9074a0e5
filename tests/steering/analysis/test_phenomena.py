"""Laws of the measures on residual rows: shrinkage, dissolution, separability, layer scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from refusal_steering.analysis.dissolution import dissolution
from refusal_steering.analysis.layer_scores import LayerScores, layer_scores
from refusal_steering.analysis.phenomena import LabelledRows, PhenomenaError, TextFrame
from refusal_steering.analysis.separability import (
    POOLED,
    RECENTRED,
    roc_curves,
)
from refusal_steering.analysis.shrinkage import Shrinkage, shrinkage

LAYERS, EACH, HIDDEN = 5, 12, 16


def text_rows(seed: int = 0, gap: float = 1.0) -> tuple[Tensor, Tensor]:
    """Rows [L, 2 * EACH, H] of one form and their labels; later layers are longer."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(LAYERS, 2 * EACH, HIDDEN, generator=generator, dtype=torch.float64)
    harmful = torch.arange(2 * EACH) < EACH
    rows[:, harmful] += gap * torch.linspace(-1, 1, HIDDEN, dtype=torch.float64)
    return rows * torch.arange(1, LAYERS + 1)[:, None, None], harmful


def two_forms(plain: Tensor, other: Tensor, harmful: Tensor) -> LabelledRows:
    names = ("plain",) * plain.shape[1] + ("image",) * other.shape[1]
    return LabelledRows(torch.cat([plain, other], dim=1), harmful.repeat(2), names)


def own_scores(sample: LabelledRows, usable: float = 0.8) -> LayerScores:
    """Scores of a sample in its own frame, where only their arithmetic matters."""
    return layer_scores(sample, TextFrame.of(sample), usable)


def about_the_harmless_mean(rows: Tensor, harmful: Tensor, turn: Tensor) -> Tensor:
    """Harmful rows multiplied by ``turn`` [H, H], seen from the harmless mean."""
    mean = rows[:, ~harmful].mean(1, keepdim=True)
    moved = rows.clone()
    moved[:, harmful] = (rows[:, harmful] - mean) @ turn + mean
    return moved


def of_image(results: tuple[Shrinkage, ...]) -> Shrinkage:
    return next(result for result in results if result.form == "image")


def test_plain_text_does_not_shrink_against_itself() -> None:
    rows, harmful = text_rows()
    (plain,) = shrinkage(LabelledRows(rows, harmful, ("plain",) * 2 * EACH))
    assert plain.rho == pytest.approx([1.0] * LAYERS)
    assert plain.cosine == pytest.approx([1.0] * LAYERS)
    assert plain.ratio == pytest.approx([1.0] * LAYERS)
    assert all(map(math.isnan, plain.magnitude_share))
    assert (plain.harmful, plain.harmless) == (EACH, EACH)


@pytest.mark.parametrize("scale", [0.25, 0.6, 1.5])
def test_scaling_about_the_harmless_mean_is_pure_length(scale: float) -> None:
    rows, harmful = text_rows()
    turn = scale * torch.eye(HIDDEN, dtype=torch.float64)
    moved = about_the_harmless_mean(rows, harmful, turn) + 7.0
    image = of_image(shrinkage(two_forms(rows, moved, harmful)))
    assert image.rho == pytest.approx([scale] * LAYERS)
    assert image.cosine == pytest.approx([1.0] * LAYERS)
    assert image.ratio == pytest.approx([scale] * LAYERS)
    if scale < 1:
        assert image.magnitude_share == pytest.approx([1.0] * LAYERS)
    else:
        assert all(map(math.isnan, image.magnitude_share))


def test_a_turn_shows_in_the_cosine_alone() -> None:
    rows, harmful = text_rows()
    vectors = LabelledRows(rows, harmful, ("plain",) * 2 * EACH).vector("plain")
    generator = torch.Generator().manual_seed(3)
    turn, _ = torch.linalg.qr(
        torch.eye(HIDDEN, dtype=torch.float64)
        + 0.1 * torch.randn(HIDDEN, HIDDEN, generator=generator, dtype=torch.float64)
    )
    image = of_image(
        shrinkage(two_forms(rows, about_the_harmless_mean(rows, harmful, turn), harmful))
    )
    expected = torch.cosine_similarity(vectors, vectors @ turn, dim=-1)
    assert image.rho == pytest.approx([1.0] * LAYERS)
    assert image.cosine == pytest.approx(expected.tolist())
    defined = [share for share in image.magnitude_share if not math.isnan(share)]
    assert defined == pytest.approx([0.0] * len(defined), abs=1e-6)


def test_length_and_turn_share_the_loss_by_their_logarithms() -> None:
    rows = torch.zeros(1, 4, 2, dtype=torch.float64)
    rows[0, 0] = torch.tensor([2.0, 0.0])
    rows[0, 2] = 1.0 * torch.tensor([math.cos(0.5), math.sin(0.5)])
    sample = LabelledRows(rows, torch.tensor([True, False] * 2), ("plain", "plain", "im", "im"))
    image = shrinkage(sample)[1]
    wanted = math.log(0.5) / (math.log(0.5) + math.log(math.cos(0.5)))
    assert image.magnitude_share == pytest.approx([wanted])
    assert image.ratio == pytest.approx([0.5 * math.cos(0.5)])


def test_a_vector_turned_away_has_no_share() -> None:
    rows, harmful = text_rows()
    away = about_the_harmless_mean(rows, harmful, -torch.eye(HIDDEN, dtype=torch.float64))
    image = of_image(shrinkage(two_forms(rows, away, harmful)))
    assert image.cosine == pytest.approx([-1.0] * LAYERS)
    assert all(map(math.isnan, image.magnitude_share))


def test_dissolution_is_0_at_the_harmless_and_1_at_the_harmful_mean() -> None:
    rows, harmful = text_rows()
    frame = TextFrame.of(LabelledRows(rows, harmful, ("plain",) * 2 * EACH))
    means = torch.stack([rows[:, ~harmful].mean(1), rows[:, harmful].mean(1)], dim=1)
    places = frame.place(means)
    torch.testing.assert_close(places[:, 0], torch.zeros(LAYERS, dtype=torch.float64))
    torch.testing.assert_close(places[:, 1], torch.ones(LAYERS, dtype=torch.float64))
    middle = frame.place(0.7 * means[:, :1] + 0.3 * means[:, 1:])
    torch.testing.assert_close(middle[:, 0], torch.full((LAYERS,), 0.3, dtype=torch.float64))


def test_dissolution_reads_each_form_in_the_frame_of_plain_text() -> None:
    rows, harmful = text_rows()
    weaker = about_the_harmless_mean(rows, harmful, 0.4 * torch.eye(HIDDEN, dtype=torch.float64))
    curves = {(c.form, c.label): c for c in dissolution(two_forms(rows, weaker, harmful))}
    assert curves["plain", "harmful"].positions == pytest.approx([1.0] * LAYERS)
    assert curves["plain", "harmless"].positions == pytest.approx([0.0] * LAYERS, abs=1e-9)
    assert curves["image", "harmful"].positions == pytest.approx([0.4] * LAYERS)
    assert curves["image", "harmful"].items == EACH


def test_a_form_without_harmless_rows_has_one_curve_and_no_vector() -> None:
    rows, harmful = text_rows()
    only = rows[:, harmful]
    sample = LabelledRows(
        torch.cat([rows, only], dim=1),
        torch.cat([harmful, harmful[harmful]]),
        ("plain",) * 2 * EACH + ("image",) * EACH,
    )
    assert [c.label for c in dissolution(sample) if c.form == "image"] == ["harmful"]
    with pytest.raises(PhenomenaError, match="'image' has no harmless rows"):
        shrinkage(sample)


def test_a_layer_without_direction_is_nan_and_never_chosen() -> None:
    rows, harmful = text_rows()
    rows[0] = 1.0
    sample = LabelledRows(rows, harmful, ("plain",) * 2 * EACH)
    assert all(math.isnan(curve.positions[0]) for curve in dissolution(sample))
    scores = own_scores(sample)
    assert math.isnan(scores.total[0])
    assert scores.best != 0
    with pytest.raises(PhenomenaError, match="no direction"):
        roc_curves(sample, 0)


def areas_of(sample: LabelledRows, name: str, frame: TextFrame | None = None) -> list[float]:
    """The area under the curve ``name`` at each layer."""
    return [
        curve.auc
        for layer in range(LAYERS)
        for curve in roc_curves(sample, layer, frame)
        if curve.name == name
    ]


def test_areas_agree_with_counting_pairs() -> None:
    rows, harmful = text_rows(gap=0.2)
    held, labels = text_rows(seed=1, gap=0.2)
    frame = TextFrame.of(LabelledRows(rows, harmful, ("plain",) * 2 * EACH))
    sample = LabelledRows(held, labels, ("plain",) * 2 * EACH)
    places = frame.place(held).numpy()
    pairs = places[:, labels.numpy()][:, :, None] - places[:, ~labels.numpy()][:, None]
    counted = ((pairs > 0) + 0.5 * (pairs == 0)).mean((1, 2))
    assert areas_of(sample, "plain", frame) == pytest.approx(counted)
    assert 0.3 < min(counted) < 1.0


@pytest.mark.parametrize("shift", [-40.0, 3.0, 500.0])
def test_a_shift_of_one_form_costs_pooled_but_not_recentred_area(shift: float) -> None:
    rows, harmful = text_rows()
    other, _ = text_rows(seed=1)
    still = two_forms(rows, other, harmful)
    moved = two_forms(rows, other + shift * torch.linspace(-1, 1, HIDDEN), harmful)
    for name in (RECENTRED, "image"):
        assert areas_of(moved, name) == pytest.approx(areas_of(still, name))
    if abs(shift) > 10:
        assert max(areas_of(moved, POOLED)) < min(areas_of(still, POOLED))


def test_roc_curves_hold_the_areas_they_name() -> None:
    rows, harmful = text_rows(gap=0.3)
    other, _ = text_rows(seed=1, gap=0.3)
    sample = two_forms(rows, other, harmful)
    curves = {curve.name: curve for curve in roc_curves(sample, 2)}
    assert set(curves) == {"plain", "image", POOLED, RECENTRED}
    for curve in curves.values():
        assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
        assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(curve.auc)


def test_the_layer_with_the_widest_gap_wins() -> None:
    rows, harmful = text_rows(gap=0.5)
    rows[2, harmful] += 20.0 * torch.linspace(-1, 1, HIDDEN)
    scores = own_scores(LabelledRows(rows, harmful, ("plain",) * 2 * EACH), usable=1.0)
    assert scores.best == 2
    assert scores.margin[2] == max(scores.margin) > 0
    assert scores.consistency[2] == max(scores.consistency)
    assert sum(scores.total) == pytest.approx(0.0, abs=1e-9)


def test_noise_in_a_wide_model_scores_nothing_outside_of_its_own_rows() -> None:
    """In 512 dimensions 40 rows of noise come apart along the difference of their own means."""
    generator = torch.Generator().manual_seed(0)
    learning, tuning = torch.randn(2, LAYERS, 80, 512, generator=generator)
    labels = torch.arange(80) < 40
    made, held = (LabelledRows(rows, labels, ("plain",) * 80) for rows in (learning, tuning))
    assert min(own_scores(made).separability) > 0.99
    assert max(layer_scores(held, TextFrame.of(made)).separability) < 0.7


def test_late_layers_are_no_candidates() -> None:
    rows, harmful = text_rows(gap=0.5)
    rows[-1, harmful] += 20.0 * torch.linspace(-1, 1, HIDDEN)
    scores = own_scores(LabelledRows(rows, harmful, ("plain",) * 2 * EACH), usable=0.8)
    assert [math.isnan(total) for total in scores.total] == [False] * 4 + [True]
    assert scores.best < LAYERS - 1


def test_scores_do_not_depend_on_the_length_of_the_stream() -> None:
    rows, harmful = text_rows()
    names = ("plain",) * 2 * EACH
    scales = torch.tensor([3.0, 0.1, 7.0, 1.0, 50.0])[:, None, None]
    one = own_scores(LabelledRows(rows, harmful, names))
    other = own_scores(LabelledRows(rows * scales, harmful, names))
    assert other.margin == pytest.approx(one.margin)
    assert other.consistency == pytest.approx(one.consistency)
    assert other.best == one.best


@pytest.mark.parametrize(
    ("rows", "harmful", "forms", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([True, False, True]), 3, "layers, items, hidden"),
        (torch.zeros(2, 3, 4).long(), torch.tensor([True, False, True]), 3, "must be floats"),
        (torch.zeros(2, 3, 4), torch.tensor([1, 0, 1]), 3, "must be bool"),
        (torch.zeros(2, 3, 4), torch.tensor([True, False]), 3, "must be bool"),
        (torch.zeros(2, 3, 4), torch.tensor([True, False, True]), 2, "form names"),
        (torch.full((2, 3, 4), math.nan), torch.tensor([True, False, True]), 3, "NaN"),
        (torch.zeros(2, 3, 4), torch.tensor([True, True, True]), 3, "no harmless rows"),
    ],
)
def test_rows_that_contradict_themselves_are_refused(
    rows: Tensor, harmful: Tensor, forms: int, message: str
) -> None:
    with pytest.raises(PhenomenaError, match=message):
        LabelledRows(rows, harmful, ("plain",) * forms)


def test_a_frame_of_another_model_is_refused() -> None:
    rows, harmful = text_rows()
    frame = TextFrame.of(LabelledRows(rows, harmful, ("plain",) * 2 * EACH))
    with pytest.raises(PhenomenaError, match="do not fit"):
        frame.place(rows[:, :, 1:])
