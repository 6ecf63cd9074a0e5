"""What ``evaluate`` measured over HTTP, as the evaluation of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from refusal_steering.evaluation.results import FORMAT
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.files import read_text
from refusal_steering.report.outcomes import Evaluation, Refused
from refusal_steering.report.values import invalid

_LABELS: tuple[Label, ...] = ("harmful", "harmless")


class _Answer(BaseModel):
    suite: str
    arm: str
    form: str
    label: str
    verdict: str | None
    degenerate: bool | None


class _Results(BaseModel):
    """The part of a results file that a report shows."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    created: str
    detectors: tuple[str, ...]
    answers: tuple[_Answer, ...]


_ADAPTER = TypeAdapter(_Results)


@dataclass(frozen=True, slots=True)
class ServedEvaluation:
    """Evaluations by policy and label, and the note that says where they come from."""

    evaluations: tuple[Evaluation, ...]
    note: str


def read_served(path: Path) -> ServedEvaluation:
    """Refusals of every policy by form, by the first detector of the file; without borderline ones.

    A degenerate answer is no refusal, and a request without an answer does not count. The names of
    several suites stand before the forms. Raises :class:`MeasurementsError`.
    """
    results = _read(path)
    suites = tuple(dict.fromkeys(answer.suite for answer in results.answers))
    return ServedEvaluation(
        tuple(_evaluations(results.answers, several=len(suites) > 1)),
        f"The evaluation was measured over HTTP on {', '.join(suites)} ({results.created}; "
        f"detector {results.detectors[0]}), not by the build.",
    )


def _evaluations(answers: Sequence[_Answer], several: bool) -> Iterator[Evaluation]:
    for arm in dict.fromkeys(answer.arm for answer in answers):
        for label in _LABELS:
            cells: dict[str, list[bool]] = {}
            for one in answers:
                if (one.arm, one.label) == (arm, label) and one.verdict is not None:
                    form = f"{one.suite} {one.form}" if several else one.form
                    cells.setdefault(form, []).append(_refusal(one))
            if cells:
                yield Evaluation(arm, label, tuple(_refused(*cell) for cell in cells.items()))


def _refusal(answer: _Answer) -> bool:
    return answer.verdict == "refusal" and not answer.degenerate


def _refused(form: str, refusals: Sequence[bool]) -> Refused:
    return Refused.counted(form, sum(refusals), len(refusals))


def _read(path: Path) -> _Results:
    try:
        return _ADAPTER.validate_json(read_text(path))
    except ValidationError as error:
        remedy = "Expected the results file of `refusal-steering evaluate -o`."
        raise invalid(error, str(path), remedy) from error
