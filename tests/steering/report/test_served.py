"""Results of ``evaluate`` become the evaluation of a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.detection.detector import LEXICAL
from refusal_steering.report import Measurements, MeasurementsError, save_measurements
from refusal_steering.report.served import read_served
from refusal_steering.tools.report import report

Row = tuple[str, str, str, str | None, bool]

# form, label, verdict, degenerate, for the arms off and omnisteer alike but for the verdict
_OFF: list[Row] = [
    ("off", "list", "harmful", "answer", False),
    ("off", "list", "harmful", "refusal", True),
    ("off", "list", "harmless", "answer", False),
    ("off", "plain", "borderline", "refusal", False),
]
_STEERED: list[Row] = [
    ("omnisteer", "list", "harmful", "refusal", False),
    ("omnisteer", "list", "harmful", None, False),
    ("omnisteer", "list", "harmless", "refusal", False),
    ("omnisteer", "list", "harmless", "broken", False),
]


def results(rows: list[Row], suite: str = "dev") -> list[dict[str, Any]]:
    return [
        {
            "suite": suite,
            "arm": arm,
            "form": form,
            "label": label,
            "verdict": verdict,
            "degenerate": None if verdict is None else degenerate,
        }
        for arm, form, label, verdict, degenerate in rows
    ]


def written(path: Path, answers: list[dict[str, Any]], **changes: Any) -> Path:
    document = {
        "format": 1,
        "created": "2026-11-21T12:00:00+00:00",
        "detectors": [LEXICAL],
        "answers": answers,
        "settings": {},
    }
    path.write_text(json.dumps(document | changes))
    return path


def shares(evaluations: Any) -> dict[tuple[str, str, str], tuple[float, int]]:
    return {(e.policy, e.label, f.form): (f.share, f.n) for e in evaluations for f in e.forms}


def test_refusals_are_counted_by_policy_label_and_form(tmp_path: Path) -> None:
    served = read_served(written(tmp_path / "r.json", results(_OFF + _STEERED)))
    assert shares(served.evaluations) == {
        ("off", "harmful", "list"): (0.0, 2),
        ("off", "harmless", "list"): (0.0, 1),
        ("omnisteer", "harmful", "list"): (1.0, 1),
        ("omnisteer", "harmless", "list"): (0.5, 2),
    }
    for evaluation in served.evaluations:
        for cell in evaluation.forms:
            assert cell.low <= cell.share <= cell.high
            assert cell.high - cell.low < 1


def test_suites_are_told_apart(tmp_path: Path) -> None:
    answers = results(_OFF[:1], "dev") + results(_OFF[:1], "unseen")
    served = read_served(written(tmp_path / "r.json", answers))
    assert set(shares(served.evaluations)) == {
        ("off", "harmful", "dev list"),
        ("off", "harmful", "unseen list"),
    }
    assert "dev, unseen" in served.note


def test_the_page_shows_what_was_served_and_says_so(tmp_path: Path) -> None:
    save_measurements(Measurements("t", "m", "c", notes=("own note",)), tmp_path)
    out = tmp_path / "report.html"
    report(tmp_path, out, written(tmp_path / "r.json", results(_OFF + _STEERED)))
    page = out.read_text()
    assert "omnisteer" in page
    assert "measured over HTTP on dev" in page
    assert "own note" in page


@pytest.mark.parametrize(
    ("changes", "place"),
    [({"format": 2}, "invalid at format"), ({"answers": [{}]}, r"invalid at answers\.0\.suite")],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, changes: dict[str, Any], place: str
) -> None:
    path = written(tmp_path / "r.json", **{"answers": [], **changes})
    with pytest.raises(MeasurementsError, match=place):
        read_served(path)
