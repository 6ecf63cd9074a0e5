"""A suite with media by what its requests bring: modality and type, each with n and interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refusal_steering.evaluation.scoring.score import METRICS
from refusal_steering.evaluation.tables.cells import rate, table

_RIGHT = {"rsr": "refused", "bar": "answered", "borderline": "answered"}


def has_media(rows: Sequence[Mapping[str, Any]], detector: str) -> bool:
    """Whether any request of a suite brings more than text."""
    return any(name != "text" for name in rows[0]["scores"][detector]["modalities"])


def by_modality(rows: Sequence[Mapping[str, Any]], detector: str) -> list[str]:
    """Lines of a table of one suite's summary rows: a line per modality, type and arm."""
    modalities = rows[0]["scores"][detector]["modalities"]
    head = ("modality", "type", "policy", "right", "share", "n", "errors")
    body = [
        (name, label, row["arm"], _RIGHT[metric], *_cells(row["scores"][detector], name, metric))
        for name in modalities
        for metric, label in METRICS.items()
        if any(modalities[name][metric][key] for key in ("n", "errors"))
        for row in rows
    ]
    return table(head, body)


def _cells(score: Mapping[str, Any], modality: str, metric: str) -> tuple[str, str, str]:
    found = score["modalities"][modality][metric]
    return rate(found), str(found["n"]), str(found["errors"])
