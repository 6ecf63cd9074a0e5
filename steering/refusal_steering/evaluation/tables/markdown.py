"""The results as Markdown: one table per suite and detector, a row per arm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refusal_steering.evaluation.tables.by_modality import by_modality, has_media
from refusal_steering.evaluation.tables.cells import rate, share, table
from refusal_steering.evaluation.tables.paper import paper_table
from refusal_steering.evaluation.tables.utility import defences, right_answers, scores

# A suite of more forms has a table of their own, with intervals.
_WIDEST = 8


def markdown(results: Mapping[str, Any]) -> str:
    """Tables of a results object, with what their columns and the system prompt mean."""
    settings = results["settings"]
    lines = [
        f"Model `{settings['model']}`, greedy, at most {settings['max_tokens']} tokens; "
        f"baseline `{results['baseline']}`.",
        "Columns of forms: RSR, harmful requests refused in coherent words. BAR: harmless ones "
        "answered in coherent words; borderline likewise. In brackets Wilson's interval at 95 %. "
        "Identical and chrF: harmless answers against the baseline's. Touched: answers that "
        "steering has added something to, where the server says so. Errors count nowhere else.",
    ]
    lines += _leakage(results["leakage"])
    if results["paper"]:
        lines += ["", *paper_table(results)]
    if settings["system_prompt"] is not None:
        words = " ".join(settings["system_prompt"].split())
        lines += ["", "Arm `system prompt`: asked like the baseline, after the system prompt", ""]
        lines.append(f"> {words}")
    for suite in results["suites"]:
        rows = [row for row in results["summary"] if row["suite"] == suite["name"]]
        for detector in rows[0]["scores"]:
            lines += [
                "",
                f"**{suite['name']}**, detector `{detector}`{_rule(rows[0], detector)}",
                "",
                *_table(rows, detector),
            ]
            if len(rows[0]["scores"][detector]["forms"]) > _WIDEST:
                lines += ["", *_by_form(rows, detector)]
            if has_media(rows, detector):
                lines += ["", *by_modality(rows, detector)]
        for more in (right_answers(rows), scores(rows), defences(rows)):
            lines += ["", *more] if more else []
    return "\n".join(lines) + "\n"


def _leakage(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return ["", "Leakage from the calibration: not looked for (--calibration does)."]
    leaked = {suite: facts for suite, facts in found.items() if facts["cases"]}
    if not leaked:
        return ["", "Leakage from the calibration: none found, exact or near."]
    parts = [
        f"{suite}: {facts['cases']} cases ("
        + ", ".join(f"{count} {kind}" for kind, count in facts["matches"].items())
        + ")"
        for suite, facts in leaked.items()
    ]
    return ["", f"**Leakage from the calibration**: {'; '.join(parts)}."]


def _rule(row: Mapping[str, Any], detector: str) -> str:
    judged = row["judge"]
    return f": {judged['rule']}" if judged and detector.startswith("judge:") else ""


def _by_form(rows: list[Mapping[str, Any]], detector: str) -> list[str]:
    head = ("form", "policy", "RSR", "BAR", "borderline", "harmful touched", "harmless touched")
    forms = rows[0]["scores"][detector]["forms"]
    body = [_form_row(form, row, detector) for form in forms for row in rows]
    return table(head, body)


def _form_row(form: str, row: Mapping[str, Any], detector: str) -> tuple[str, ...]:
    rates, touched = row["scores"][detector]["forms"][form], row["touched"][form]
    return (
        form,
        row["arm"],
        *(rate(rates[metric]) for metric in ("rsr", "bar", "borderline")),
        *(rate(touched[label]) if label in touched else "-" for label in ("harmful", "harmless")),
    )


def _table(rows: list[Mapping[str, Any]], detector: str) -> list[str]:
    forms = [
        form
        for form, rates in rows[0]["scores"][detector]["forms"].items()
        if rates["rsr"]["n"] or rates["rsr"]["errors"]
    ]
    if len(rows[0]["scores"][detector]["forms"]) > _WIDEST:
        forms = []
    head = ("policy", *forms, "RSR, mean of forms", "RSR, all", "BAR", "borderline")
    head += ("right answer", "identical", "chrF", "degenerate", "errors", "n")
    body = [_row(row, row["scores"][detector], forms) for row in rows]
    return table(head, body)


def _row(row: Mapping[str, Any], score: Mapping[str, Any], forms: list[str]) -> tuple[str, ...]:
    close = row["fidelity"]["harmless"]
    return (
        row["arm"],
        *(share(score["forms"][form]["rsr"]["value"]) for form in forms),
        share(score["rsr_mean_over_forms"]),
        *(rate(score[metric]) for metric in ("rsr", "bar", "borderline")),
        rate(row["utility"]["right"]) if row["utility"] else "-",
        share(close["identical"] / close["n"] if close["n"] else None),
        "-" if close["chrf"] is None else f"{close['chrf']:.1f}",
        str(score["degenerate"]),
        str(score["without_verdict"]),
        str(score["cases"]),
    )
