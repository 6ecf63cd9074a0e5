"""What a report shows of residual rows is what was measured on them."""

from __future__ import annotations

import pytest
import torch

from refusal_steering.analysis.dissolution import dissolution
from refusal_steering.analysis.phenomena import LabelledRows, TextFrame
from refusal_steering.analysis.separability import roc_curves
from refusal_steering.analysis.shrinkage import shrinkage
from refusal_steering.report.gather import (
    dissolution_of,
    projections_of,
    roc_of,
    shrinkage_of,
)
from refusal_steering.report.measurements import Measurements


def sample() -> LabelledRows:
    rows = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(0))
    harmful = torch.arange(40) % 2 == 0
    rows[:, harmful] += 1.0
    return LabelledRows(rows, harmful, ("plain",) * 20 + ("image",) * 20)


def test_all_phenomena_pass_the_border_unchanged() -> None:
    measured = sample()
    results, curves = shrinkage(measured), dissolution(measured)
    places = TextFrame.of(measured).place(measured.rows)
    found = Measurements(
        "t",
        "m",
        "c",
        projections=projections_of(measured.labels, places[[0, 2]], [0, 2]),
        dissolution=dissolution_of(curves, range(3)),
        shrinkage=shrinkage_of(results, range(3)),
        roc=roc_of(roc_curves(measured, 1)),
    )
    again = Measurements.from_json(found.to_json())
    assert again == found
    assert [c.positions for c in again.dissolution] == [c.positions for c in curves]
    image = [row.cosine for row in again.shrinkage if row.form == "image"]
    assert image == list(results[1].cosine)
    assert again.shrinkage[0].magnitude_share is None


def test_the_mean_of_projections_is_the_dissolution_curve() -> None:
    measured = sample()
    curves = {(c.form, c.label): c.positions for c in dissolution(measured)}
    places = TextFrame.of(measured).place(measured.rows)
    groups = projections_of(measured.labels, places, [0, 1, 2])
    assert len(groups) == 12
    for group in groups:
        mean = sum(group.values) / len(group.values)
        assert mean == pytest.approx(curves[group.form, group.label][group.layer])
