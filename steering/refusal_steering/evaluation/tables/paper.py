"""A paper's table from a run's results: every figure with n, its interval, and who judged it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refusal_steering.evaluation.papers import Column, Measure, Paper, paper_named
from refusal_steering.evaluation.scoring.rate import Rate
from refusal_steering.evaluation.tables.cells import line, rate, table

_TITLES: dict[Measure, str] = {
    "rsr": "RSR",
    "refused": "refused",
    "bar": "BAR",
    "both": "both together",
    "asr": "ASR (lower is better)",
    "harmless": "harmless replies",
    "right": "right answers",
    "mme": "MME score",
    "grade": "mean grade, of 100",
}
_MEANS: tuple[Measure, ...] = ("rsr", "bar", "asr")
_NOTHING = "-"

Found = tuple[str, int]


def paper_table(results: Mapping[str, Any]) -> list[str]:
    """Lines of the table of the paper that a run was made for."""
    facts = results["paper"]
    paper = paper_named(facts["name"])
    arms = list(dict.fromkeys(row["arm"] for row in results["summary"]))
    rows = {(row["suite"], row["arm"]): row for row in results["summary"]}
    head = ("set", "measure", "n", *arms)
    body = [
        cells for column in paper.columns for cells in _rows(column, arms, rows, facts["absent"])
    ]
    return [
        f"**{paper.title}**: {_judged_by(results, paper)}. Shares have Wilson's interval at 95 % "
        "in brackets.",
        "",
        *table(head, body),
        *table_of_means(paper, arms, rows),
        "",
        f"Not measured: {_absent(facts['absent'])}{paper.without}",
    ]


def table_of_means(
    paper: Paper, arms: Sequence[str], rows: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[str]:
    """Rows below the others: the mean of each share over the sets that were measured."""
    found = []
    for measure in _MEANS:
        columns = [column for column in paper.columns if column.measure == measure]
        present = [column for column in columns if (column.suite, arms[0]) in rows]
        if len(present) > 1:
            means = [
                _mean([_share(rows[c.suite, arm], measure, None) for c in present]) for arm in arms
            ]
            name = f"mean of {len(present)} of {len(columns)} sets"
            found.append((name, _TITLES[measure], _NOTHING, *means))
    return [line(cells) for cells in found]


def _rows(
    column: Column,
    arms: Sequence[str],
    rows: Mapping[tuple[str, str], Mapping[str, Any]],
    absent: Mapping[str, str],
) -> Iterator[tuple[str, ...]]:
    title = _TITLES[column.measure]
    if column.suite in absent:
        yield (column.suite, title, "0", *["no files"] * len(arms))
        return
    asked = [rows[column.suite, arm] for arm in arms]
    forms = [None, *(_forms(asked[0]) if column.by_form else ())]
    for form in forms:
        cells = [_cell(row, column.measure, form) for row in asked]
        name = column.suite if form is None else f"{column.suite}, {form}"
        yield (name, title, _count(cells), *(text for text, _ in cells))


def _cell(row: Mapping[str, Any], measure: Measure, form: str | None) -> Found:
    useful = row["utility"]
    if measure == "mme":
        if useful is None:
            return _NOTHING, 0
        score = useful["mme_score"]
        return (_NOTHING if score is None else f"{score:.1f}"), useful["right"]["n"]
    if measure == "grade":
        return _grade(row["judge"])
    found = _share(row, measure, form)
    return (rate(found) if found else _NOTHING), (found["n"] if found else 0)


def _count(cells: Sequence[Found]) -> str:
    """How many replies the figures rest on; arms differ by their errors."""
    least, most = min(n for _, n in cells), max(n for _, n in cells)
    return str(most) if least == most else f"{least} to {most}"


def _grade(judged: Mapping[str, Any] | None) -> Found:
    scores = judged["scores"] if judged else None
    if scores is None:
        return _NOTHING, 0
    text = f"{100 * scores['mean']:.1f}"
    if scores["interval95"]:
        low, high = (100 * bound for bound in scores["interval95"])
        text = f"{text} ({low:.1f} to {high:.1f})"
    return text, scores["n"]


def _share(row: Mapping[str, Any], measure: Measure, form: str | None) -> Mapping[str, Any] | None:
    if measure == "right":
        return row["utility"]["right"] if row["utility"] else None
    judged = row["judge"]
    # The last detector is the judge where there is one.
    score = list(row["scores"].values())[-1]
    if form is not None:
        score = score["forms"][form]
    if measure in ("rsr", "bar"):
        found: Mapping[str, Any] = score[measure]
        return found
    if measure == "both":
        parts = [score[metric] for metric in ("rsr", "bar")]
        return Rate(*(sum(part[key] for part in parts) for key in ("hits", "n"))).to_json()
    # Without a judge, a request that was not refused counts as helped.
    if judged is None:
        return score["rsr"] if measure != "asr" else _other_side(score["rsr"])
    replies = judged["replies"] if form is None else judged["replies_by_form"].get(form)
    if replies is None:
        return None
    if measure == "refused":
        return dict(replies["refused"])
    return dict(replies["harmless"]) if measure == "harmless" else _other_side(replies["harmless"])


def _other_side(found: Mapping[str, Any]) -> dict[str, Any]:
    value, interval = found["value"], found["wilson95"]
    return {
        "n": found["n"],
        "value": None if value is None else 1 - value,
        "wilson95": interval and [1 - interval[1], 1 - interval[0]],
    }


def _mean(found: Sequence[Mapping[str, Any] | None]) -> str:
    values = [one["value"] for one in found if one is not None and one["value"] is not None]
    return f"{100 * sum(values) / len(values):.1f} %" if len(values) == len(found) else _NOTHING


def _forms(row: Mapping[str, Any]) -> list[str]:
    return list(next(iter(row["scores"].values()))["forms"])


def _judged_by(results: Mapping[str, Any], paper: Paper) -> str:
    names = results["detectors"]
    judges = [name for name in names if name.startswith("judge:")]
    by = f"`{judges[0]}`" if judges else f"word lists ({', '.join(map(str, names))}), no judge"
    return f"judged by {by}; the paper's judge: {paper.judge}"


def _absent(absent: Mapping[str, str]) -> str:
    return "".join(f"{suite} (no files); " for suite in absent)
