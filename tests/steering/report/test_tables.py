"""Tables say each figure once, in the right place."""

from __future__ import annotations

import pytest

from refusal_steering.report.measurements import Timing
from refusal_steering.report.outcomes import Evaluation, Refused
from refusal_steering.report.phenomena import Separability
from refusal_steering.report.tables import (
    area_table,
    evaluation_tables,
    number,
    spans,
    timing_table,
)


@pytest.mark.parametrize(
    ("layers", "text"),
    [((3,), "3"), ((5, 3, 4), "3-5"), ((0, 2, 3, 9), "0, 2-3, 9"), ((), "")],
)
def test_runs_of_layers_are_drawn_together(layers: tuple[int, ...], text: str) -> None:
    assert spans(layers) == text


def test_every_cell_stands_under_its_form() -> None:
    plain, image = Refused("plain", 0.5, 4, 0.1, 0.9), Refused("image", 1.0, 2, 0.4, 1.0)
    (table,) = evaluation_tables(
        [Evaluation("a", "harmful", (plain,)), Evaluation("b", "harmful", (image, plain))]
    )
    assert table.head == ("policy", "requests", "plain", "image")
    shown = [tuple(cell.replace("\u00a0", " ") for cell in row[2:]) for row in table.rows]
    assert shown[0] == ("50.0 %\n(10.0 to 90.0)\nn = 4", "not measured")
    assert shown[1] == (shown[0][0], "100.0 %\n(40.0 to 100.0)\nn = 2")


def test_every_outcome_has_a_table_of_its_own() -> None:
    cell = Refused.counted("plain", 1, 4)
    counted = [Evaluation("a", "harmless", (cell,), outcome) for outcome in ("changed", "refused")]
    tables = list(evaluation_tables(counted))
    assert [table.caption.split(",")[0] for table in tables] == [
        "Share of requests refused",
        "Share of answers that are not the unsteered ones. Low is right for harmless requests; "
        "a model asked twice under load may differ by itself.",
    ]
    assert {len(table.rows) for table in tables} == {1}


def test_areas_stand_with_their_intervals_and_a_layer_without_one_says_so() -> None:
    curve = Separability("image", "own", 8, 9, (3, 4), (0.75, None), (0.5, None), (0.9, None))
    rows = [tuple(cell.replace("\u00a0", " ") for cell in row) for row in area_table([curve]).rows]
    assert rows == [
        ("image", "own", "3", "0.750 (0.50 to 0.90)", "8", "9"),
        ("image", "own", "4", "undefined", "8", "9"),
    ]


def test_memory_stands_beside_time_where_it_is_known() -> None:
    table = timing_table([Timing("a", 1.0, 512.4), Timing("b", 2.0)])
    assert table.head == ("stage", "seconds", "peak MB")
    assert [row[2] for row in table.rows] == ["512", "not measured", ""]


def test_times_add_up() -> None:
    rows = timing_table([Timing("a", 1.25), Timing("b", 2.5)]).rows
    assert rows[-1] == ("all stages", "3.8")
    assert len(rows) == 3


def test_no_number_is_said_in_words() -> None:
    assert (number(None), number(0.12345)) == ("undefined", "0.123")
