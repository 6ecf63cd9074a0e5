"""Measurements come back as they were saved, and nothing wrong comes in."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import MeasurementsError
from refusal_steering.report.measurements import (
    MEASUREMENTS_FILE,
    Measurements,
    load_measurements,
    save_measurements,
)
from refusal_steering.report.outcomes import Coefficients
from refusal_steering.report.phenomena import (
    CosineMatrix,
    Dissolution,
    Projections,
    Roc,
    Separability,
)
from refusal_steering.report.values import SAMPLE_LIMIT, subsample
from tests.steering.report.synthetic import measurements


def test_saved_measurements_come_back_equal(tmp_path: Path) -> None:
    path = save_measurements(measurements(), tmp_path / "new")
    assert load_measurements(path) == load_measurements(path.parent) == measurements()
    assert [entry.name for entry in path.parent.iterdir()] == [MEASUREMENTS_FILE]


def test_an_empty_build_comes_back_equal() -> None:
    empty = Measurements("t", "m", "c")
    assert Measurements.from_json(empty.to_json()) == empty


def altered(**changes: Any) -> str:
    return json.dumps({**json.loads(measurements().to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "document"),
        ("[]", "document"),
        (altered(surprise=1), "surprise"),
        (altered(title="bell \u0007"), "title"),
        (altered(timings=[{"stage": "rows", "seconds": -1}]), "timings.0.seconds"),
        (altered(timings=[{"stage": "rows", "seconds": 1, "x": 1}]), "timings.0.x"),
        (altered(trade_off=[{"policy": "p", "points": []}]), "trade_off.0.points"),
        (
            altered(coefficients=[{"form": "f", "label": "odd", "items": 1, "values": [1]}]),
            "coefficients.0.label",
        ),
    ],
)
def test_the_first_wrong_place_is_named(text: str, place: str) -> None:
    with pytest.raises(MeasurementsError, match=rf"invalid at {place.replace('.', '[.]')}: "):
        Measurements.from_json(text)


def test_numbers_that_are_none_are_not_written(tmp_path: Path) -> None:
    broken = replace(measurements(), coefficients=(Coefficients("f", "harmful", 1, (math.nan,)),))
    with pytest.raises(MeasurementsError, match=r"coefficients\.0\.values\.0"):
        save_measurements(broken, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dissolution("f", "harmful", 1, (0, 1), (0.5,)),
        lambda: Roc("f", (0.0, 0.5, 1.0), (0.0, 1.0), 0.5),
        lambda: Separability("f", "own", 1, 1, (0, 1), (0.5,), (0.1,), (0.9,)),
        lambda: CosineMatrix(0, ("a", "b"), ((1.0, 0.5), (0.5,)), (0.9, 0.9)),
    ],
)
def test_rows_of_unequal_length_are_refused(make: Any) -> None:
    with pytest.raises(MeasurementsError, match="it needs"):
        make()


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MeasurementsError, match="No such file"):
        load_measurements(tmp_path)


@pytest.mark.parametrize("count", [1, 399, 400, 401, 5000])
def test_samples_are_bounded_ordered_and_keep_the_extremes(count: int) -> None:
    values = [float(value * 7919 % count) for value in range(count)]
    sample = subsample(tuple(values))
    assert len(sample) == min(count, SAMPLE_LIMIT)
    assert sample == subsample(tuple(reversed(values)))
    assert list(sample) == sorted(sample)
    assert (sample[0], sample[-1]) == (min(values), max(values))


def test_a_sample_remembers_how_many_there_were() -> None:
    group = Projections.sampled(3, "plain", "harmful", [0.5] * 900)
    assert (group.items, len(group.values)) == (900, SAMPLE_LIMIT)
