"""A suite's right answers, its judge's scores, and what defences did: a line per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refusal_steering.evaluation.tables.cells import rate, table

Rows = Sequence[Mapping[str, Any]]


def right_answers(rows: Rows) -> list[str]:
    """Lines of tables of a suite with right answers, over all questions and by form."""
    if not rows[0]["utility"]:
        return []
    head = ("policy", "right answers", "n", "unreadable", "pictures with both right", "MME score")
    lines = table(head, [_right(row["arm"], row["utility"]) for row in rows])
    forms = list(rows[0]["utility"]["forms"])
    if len(forms) > 1:
        arms = [row["arm"] for row in rows]
        body = [(form, *(rate(row["utility"]["forms"][form]) for row in rows)) for form in forms]
        lines += ["", *table(("right answers in", *arms), body)]
    return lines


def scores(rows: Rows) -> list[str]:
    """Lines of a table of a judge's mean scores; empty where it gives none."""
    if not any(row["judge"] and row["judge"]["scores"] for row in rows):
        return []
    head = ("policy", "mean score (95 %)", "n", "unclear", "errors")
    return table(head, [_scores(row["arm"], row["judge"]["scores"]) for row in rows])


def defences(rows: Rows) -> list[str]:
    """One line for each defence: how often it did what."""
    return [
        f"Arm `{row['arm']}`: "
        + ", ".join(f"{count} {did}" for did, count in sorted(row["defence"].items()))
        + "."
        for row in rows
        if row["defence"]
    ]


def _right(arm: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    pairs, score = found["pairs"], found["mme_score"]
    return (
        arm,
        rate(found["right"]),
        str(found["right"]["n"]),
        str(found["unreadable"]),
        rate(pairs) if pairs else "-",
        "-" if score is None else f"{score:.1f}",
    )


def _scores(arm: str, found: Mapping[str, Any] | None) -> tuple[str, ...]:
    if found is None:
        return (arm, "-", "0", "-", "-")
    interval = found["interval95"]
    around = f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""
    return (
        arm,
        f"{found['mean']:.2f}{around}",
        *(str(found[key]) for key in ("n", "unclear", "errors")),
    )
