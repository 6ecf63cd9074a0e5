"""One preset a paper: its sets, its arms beside steering, and the columns of its table.

What a paper reports that cannot be measured here stands in ``without``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.arms.arm import Defence

# rsr and bar: harmful requests that succeed by the set's rule, harmless ones answered. both: of all
# requests, those that succeed. refused:
# harmful requests refused, whatever the set's rule. asr: harmful
# requests that got help. harmless: harmful requests that got none. right: questions answered
# rightly. mme: MME's score. grade: the judge's mean grade.
Measure = Literal["rsr", "bar", "both", "refused", "asr", "harmless", "right", "mme", "grade"]


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a paper's table: a measure on a suite, ``by_form`` once more for each form."""

    suite: str
    measure: Measure
    by_form: bool = False


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper's evaluation; ``judge`` is the model that it was judged by."""

    name: str
    title: str
    columns: tuple[Column, ...]
    defences: tuple[Defence, ...]
    max_tokens: int
    judge: str
    without: str

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites of the columns, each once, in order."""
        return tuple(dict.fromkeys(column.suite for column in self.columns))


def _columns(measure: Measure, *suites: str) -> Iterator[Column]:
    for suite in suites:
        yield Column(suite, measure)


PAPERS: dict[str, Paper] = {
    paper.name: paper
    for paper in (
        Paper(
            "omnisteer",
            "Omni-Safety under Cross-Modality Conflict, arXiv 2602.10161",
            (
                *_columns(
                    "rsr",
                    "omnisteer-harmbench",
                    "omnisteer-beavertail-test",
                    "omnisteer-mmsafetybench",
                    "omnisteer-holisafe",
                    "omnisteer-vlguard-test",
                    "omnisteer-video-safetybench",
                    "omnisteer-harmbench-audio",
                    "omnisteer-beavertail-audio-1k",
                    "omnisteer-pair-audio",
                    "omnisteer-omnisafetybench-iat",
                    "omnisteer-omnisafetybench-vat",
                ),
                *_columns(
                    "bar",
                    "omnisteer-beavertail-test",
                    "omnisteer-holisafe",
                    "omnisteer-vlguard-test",
                    "omnisteer-beavertail-audio-1k",
                    "omnisteer-mmvet",
                    "omnisteer-mvbench-ma",
                ),
                *_columns(
                    "both",
                    "omnisteer-beavertail-test",
                    "omnisteer-holisafe",
                    "omnisteer-vlguard-test",
                    "omnisteer-beavertail-audio-1k",
                ),
                Column("omnibench-qa", "right"),
            ),
            ("self-reminder",),
            256,
            "Qwen3-30B-A3B-Instruct-2507",
            "OmniGuard, a trained classifier of the model's states. The paper samples at a "
            "temperature of .7 to .9 and reports means of three runs; its authors' code takes the "
            "first 1,000 rows of a file (--limit 1000 takes as many, evenly over forms). OmniBench "
            "is marked by the letter or the words of the choice, not by the judge.",
        ),
        Paper(
            "ras",
            "Risk-adaptive Activation Steering, arXiv 2510.13698",
            (
                *_columns("asr", "spa-vl", "figstep-500"),
                Column("mm-safetybench-13", "asr", by_form=True),
                Column("jood", "asr"),
                Column("mm-vet", "grade"),
                Column("gqa", "right"),
                Column("mme", "mme"),
                Column("scienceqa", "right"),
            ),
            ("ecso",),
            512,
            "not said by a source that could be read",
            "CoCA and ETA, and FigStep's safety prompt (give it with --system-prompt). The paper "
            "answers utility questions in up to 1,024 tokens.",
        ),
        Paper(
            "mars",
            "Harnessing Textual Refusal Directions for Multimodal Safety, arXiv 2606.31876",
            (
                Column("video-safetybench", "refused", by_form=True),
                Column("hades", "harmless"),
                Column("hades", "refused"),
            ),
            ("ecso",),
            256,
            "not said by a source that could be read",
            "ViSU, whose unsafe pictures are not published; AdaSteer and SASA; the sets of its "
            "loss of utility, which no source that could be read names.",
        ),
    )
}


def paper_named(name: str) -> Paper:
    """A paper's preset; raises :class:`EvaluationError` for an unknown name."""
    if name not in PAPERS:
        raise EvaluationError(f"paper {name!r} is unknown; there are {', '.join(PAPERS)}")
    return PAPERS[name]
