"""From timed answers to the table of ratios that the latency benchmark prints."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from refusal_steering.prompts.contrast_set import Label

BASELINE = "off"
Measure = Literal["ttft", "tpot"]


@dataclass(frozen=True)
class Sample:
    """One answer: ``request`` is its place among the requests of a round.

    ``ttft`` is the seconds to its first text, ``tpot`` those for each token after that.
    """

    concurrency: int
    round: int
    request: int
    label: Label
    arm: str
    ttft: float
    tpot: float

    @property
    def place(self) -> tuple[int, int, int]:
        """What a sample and its baseline have in common."""
        return self.concurrency, self.round, self.request

    def seconds(self, measure: Measure) -> float:
        """One of the two times."""
        return self.ttft if measure == "ttft" else self.tpot


def rows(samples: Sequence[Sample], arms: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each number of requests at once and label, as they come, and each of ``arms``."""
    groups: dict[tuple[int, str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.concurrency, sample.label, sample.arm].append(sample)
    base = {sample.place: sample for sample in samples if sample.arm == BASELINE}
    loads = dict.fromkeys((sample.concurrency, sample.label) for sample in samples)
    return [
        {"concurrency": concurrency, "label": label, "arm": arm}
        | {
            measure: _measured(groups[concurrency, label, arm], base, measure)
            for measure in get_args(Measure)
        }
        for (concurrency, label), arm in product(loads, arms)
    ]


def _measured(
    group: Sequence[Sample], base: Mapping[tuple[int, int, int], Sample], measure: Measure
) -> dict[str, Any]:
    """Median milliseconds, and the median and extremes of the rounds' ratios to the baseline.

    A round's ratio is the median over its requests, each against itself under the baseline.
    """
    ratios: dict[int, list[float]] = defaultdict(list)
    for sample in group:
        unsteered = base[sample.place].seconds(measure)
        ratios[sample.round].append(sample.seconds(measure) / unsteered)
    of_rounds = [statistics.median(values) for values in ratios.values()]
    return {
        "milliseconds": 1000 * statistics.median(sample.seconds(measure) for sample in group),
        "ratio": {
            "median": statistics.median(of_rounds),
            "min": min(of_rounds),
            "max": max(of_rounds),
        },
    }


_HEADS = ("TTFT ms", "TPOT ms")


def table(report: Mapping[str, Any]) -> str:
    """The report as text."""
    lines = [
        f"{report['tokens']} tokens, {report['requests']} requests a round, {report['rounds']} "
        f"rounds; ratios to {BASELINE} in the same round: median (min - max)"
    ]
    title = ""
    for row in report["rows"]:
        if title != (title := f"{row['concurrency']} at once, {row['label']}"):
            heads = [f"{name:>8} {'ratio':>7}  {'(min - max)':16}" for name in _HEADS]
            lines += ["", f"{title:20} {'  '.join(heads)}".rstrip()]
        cells = [_cell(row[measure]) for measure in get_args(Measure)]
        lines.append(f"{row['arm']:20} {'  '.join(cells)}".rstrip())
    return "\n".join(lines) + "\n"


def _cell(measured: Mapping[str, Any]) -> str:
    ratio = measured["ratio"]
    extremes = f"({ratio['min']:.3f} - {ratio['max']:.3f})"
    return f"{measured['milliseconds']:8.1f} {ratio['median']:7.3f}  {extremes:16}"
