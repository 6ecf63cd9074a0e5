"""What the command line says of a suite: ``NAME[:PATH][?forms=plain,list&wordings=new]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qsl

from refusal_steering.evaluation.case import Label, parse_label
from refusal_steering.evaluation.errors import EvaluationError
from refusal_steering.evaluation.suites.forms import Wordings, parse_forms
from refusal_steering.prompts.contrast_set import Form


@dataclass(frozen=True, slots=True)
class SuiteSpec:
    """A suite by name, with the file that holds its rows where one is named.

    ``forms`` are the forms to put around its prompts, empty for the suite's own choice;
    ``label`` is for a file without a column of labels, ``wordings`` are those of a form that a
    file's prompts are put into.
    """

    text: str
    name: str
    path: Path | None = None
    forms: tuple[Form, ...] = ()
    label: Label | None = None
    wordings: Wordings = "first"

    @classmethod
    def parse(cls, text: str) -> SuiteSpec:
        """Read a spec; raises :class:`EvaluationError` that says what is wrong with it."""
        head, _, query = text.partition("?")
        name, _, path = head.partition(":")
        try:
            options = dict(parse_qsl(query, strict_parsing=bool(query)))
        except ValueError as error:
            raise EvaluationError(f"suite {text!r}: {query!r} is not key=value") from error
        if unknown := sorted(set(options) - {"forms", "label", "wordings"}):
            raise EvaluationError(
                f"suite {text!r}: unknown option {unknown[0]!r}; there are forms, label "
                "and wordings"
            )
        return cls(
            text,
            name.strip().lower(),
            Path(path) if path else None,
            parse_forms(options["forms"].split(",")) if "forms" in options else (),
            parse_label(options["label"], f"suite {text!r}") if "label" in options else None,
            _parse_wordings(options.get("wordings", "first"), text),
        )


def _parse_wordings(name: str, text: str) -> Wordings:
    for known in get_args(Wordings):
        if name == known:
            chosen: Wordings = known
            return chosen
    raise EvaluationError(
        f"suite {text!r}: wordings {name!r} are unknown; there are {', '.join(get_args(Wordings))}"
    )
