"""Laws of a survey: noise is never told apart, one layer is read at a time, rows are kept apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import pytest
import torch
from torch import Tensor

from refusal_steering.analysis.areas import area_interval, areas_at
from refusal_steering.analysis.division import divided, folded
from refusal_steering.analysis.phenomena import PhenomenaError, RowLabels
from refusal_steering.analysis.separability import POOLED, roc_curves_at
from refusal_steering.analysis.survey import Survey, survey

WIDTH, EACH, LAYERS = 512, 60, (2, 5, 7)
THIRDS = ("train", "tune", "held")


@dataclass
class Rows:
    """Rows of noise in groups, harmful ones moved along a direction where ``told`` says so."""

    groups: tuple[str, ...]
    harmful: Tensor
    splits: tuple[str, ...]
    told: tuple[str, ...] = ()
    seed: int = 0
    layers: tuple[int, ...] = LAYERS
    asked: list[int] = field(default_factory=list)

    def layer(self, index: int) -> Tensor:
        self.asked.append(index)
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        direction, *_ = torch.randn(1, WIDTH, generator=generator)
        rows = torch.randn(len(self.groups), WIDTH, generator=generator)
        told = torch.tensor([group in self.told for group in self.groups])
        rows[self.harmful & told] += 8.0 * direction / direction.norm()
        return rows


def rows(
    groups: Sequence[str] = ("text", "image"),
    splits: Sequence[str] = THIRDS,
    told: tuple[str, ...] = (),
    seed: int = 0,
) -> Rows:
    """``EACH`` rows of each group and label, split in turn."""
    places = [(group, bad, at) for group in groups for bad in (True, False) for at in range(EACH)]
    return Rows(
        tuple(group for group, _, _ in places),
        torch.tensor([bad for _, bad, _ in places]),
        tuple(splits[at % len(splits)] for _, _, at in places),
        told,
        seed,
    )


def areas(found: Survey, form: str) -> tuple[list[float], list[float]]:
    """Areas of a form along its own direction and along that of text, by layer."""
    own, text = (
        next(one.areas for one in areas_at(found.labels, places) if one.form == form)
        for places in (found.own, found.text)
    )
    return list(own), list(text)


@pytest.mark.parametrize("splits", [THIRDS, ("train", "tune"), ("train",), ("held",)])
def test_pure_noise_is_not_told_apart(splits: tuple[str, ...]) -> None:
    found = [survey(rows(splits=splits, seed=seed), "text") for seed in range(6)]
    for form in ("text", "image"):
        for along in (0, 1):
            every = [area for one in found for area in areas(one, form)[along]]
            # 18 areas of 20 to 60 rows a label: their mean has a deviation of at most .025.
            assert abs(fmean(every) - 0.5) < 0.08, (form, along)
    chosen = [areas(one, "text")[1][one.chosen] for one in found]
    assert fmean(chosen) < 0.65


@pytest.mark.parametrize("splits", [THIRDS, ("train",)])
def test_rows_that_learn_would_look_separable(splits: tuple[str, ...]) -> None:
    # What the law above guards against: the same noise along its own difference of means.
    source = rows(splits=splits)
    hidden = source.layer(2)[: 2 * EACH]
    harmful = source.harmful[: 2 * EACH]
    direction = hidden[harmful].mean(0) - hidden[~harmful].mean(0)
    (one,) = areas_at(RowLabels(harmful, ("text",) * 2 * EACH, "text"), (hidden @ direction)[None])
    assert one.areas[0] > 0.95


@pytest.mark.parametrize("splits", [THIRDS, ("train", "tune"), ("train",)])
def test_what_is_there_is_found(splits: tuple[str, ...]) -> None:
    found = survey(rows(splits=splits, told=("text",)), "text")
    own, text = areas(found, "text")
    assert own == pytest.approx(text) and min(own) > 0.95
    noise, _ = areas(found, "image")
    assert max(noise) < 0.8
    for matrix in found.cosines:
        halves = dict(zip(matrix.forms, matrix.halves, strict=True))
        assert halves["text"] > 0.3 > halves["image"]


def test_a_layer_is_read_once_and_in_turn() -> None:
    source = rows()
    found = survey(source, "text")
    assert source.asked == list(LAYERS) == list(found.layers)


def test_held_out_rows_are_measured_where_there_are_some() -> None:
    for splits, how, count in (
        (THIRDS, "held", EACH // 3),
        (("train", "tune"), "tune", EACH // 2),
        (("train",), "folds", EACH),
        (("tune", "held"), "folds", EACH),
    ):
        source = rows(splits=splits)
        labels = RowLabels(source.harmful, source.groups, "text")
        division = divided(labels, source.splits)
        assert division.how == how
        measured = torch.stack([measured for _, measured in division.pairs]).sum(0)
        assert int(measured.sum()) == 4 * count and int(measured.max()) == 1
        for learn, placed in division.pairs:
            assert not bool((learn & placed).any())


def test_a_request_is_in_one_fold_in_all_its_forms() -> None:
    source = rows(splits=("train",))
    labels = RowLabels(source.harmful, source.groups, "text")
    for _, placed in folded(labels, torch.ones(len(source.groups), dtype=torch.bool)).pairs:
        cells = [
            placed[labels.mask(form, bad)] for form in ("text", "image") for bad in (True, False)
        ]
        for cell in cells:
            assert torch.equal(cell, cells[0])


def test_a_group_without_one_label_has_positions_and_no_area() -> None:
    source = rows(("text", "audio"))
    kept = [not (group == "audio" and not bad) for group, bad in _pairs(source)]
    only = replace(
        source,
        groups=tuple(group for group, keep in zip(source.groups, kept, strict=True) if keep),
        harmful=source.harmful[torch.tensor(kept)],
        splits=tuple(split for split, keep in zip(source.splits, kept, strict=True) if keep),
        asked=[],
    )
    found = survey(only, "text")
    assert found.complete == ("text",) and found.incomplete == ("audio",)
    assert bool(torch.isfinite(found.text).all())
    assert set(found.vectors) == {"text"}
    assert bool(found.own[:, ~found.comparable].isnan().all())


def _pairs(source: Rows) -> list[tuple[str, bool]]:
    return list(zip(source.groups, source.harmful.tolist(), strict=True))


@pytest.mark.parametrize("name", ["text", "carrier"])
def test_too_few_rows_of_the_reference_are_counted(name: str) -> None:
    source = rows(("image",))
    few = replace(
        source,
        groups=("text", *source.groups),
        harmful=torch.cat([torch.tensor([True]), source.harmful]),
        splits=("train", *source.splits),
    )
    with pytest.raises(PhenomenaError, match=f"form '{name}' has . harm.* it takes 2"):
        survey(few, name)


def test_one_form_has_one_curve() -> None:
    labels = RowLabels(torch.tensor([True, False, True, False]), ("text",) * 4, "text")
    places = torch.tensor([1.0, 0.0, 0.8, 0.3], dtype=torch.float64)
    assert [curve.name for curve in roc_curves_at(labels, places)] == ["text"]
    two = RowLabels(labels.harmful, ("text", "text", "image", "image"), "text")
    assert POOLED in [curve.name for curve in roc_curves_at(two, places)]


def test_an_interval_holds_its_area_and_narrows_with_more_rows() -> None:
    for area in (0.0, 0.2, 0.5, 0.93, 1.0):
        widths = []
        for each in (5, 20, 200):
            low, high = area_interval(area, each, each)
            assert 0.0 <= low <= area <= high <= 1.0
            mirrored = area_interval(1.0 - area, each, each)
            assert (1.0 - high, 1.0 - low) == pytest.approx(mirrored, abs=1e-6)
            widths.append(high - low)
        assert widths == sorted(widths, reverse=True) and widths[-1] > 0.0


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator, held, tries = torch.Generator().manual_seed(1), 0, 400
    truth = 0.5 * (1 + math.erf(1.0 / 2))
    for _ in range(tries):
        harmful, harmless = torch.randn(2, 25, generator=generator)
        above = (harmful[:, None] + 1.0 > harmless).double().mean()
        low, high = area_interval(float(above), 25, 25)
        held += low <= truth <= high
    assert 0.92 < held / tries < 0.985
