"""What the command line says of a suite: ``NAME[:PATH][?forms=plain,list&templates=new]``.

Options stand behind the last question mark. A path may have question marks of its own: where none
of its last part is ``key=value`` it belongs to the path, and a question mark at the end closes any
path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qsl

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.case import Label, parse_label
from refusal_steering.evaluation.suites.forms import Templates, parse_forms
from refusal_steering.prompts.contrast_set import AttackForm


@dataclass(frozen=True, slots=True)
class SuiteSpec:
    """A suite by name, with the file that holds its rows where one is named.

    ``forms`` are the forms to put around its prompts, empty for the suite's own choice;
    ``label`` is for a file without a column of labels, ``templates`` are those of a form that a
    file's prompts are put into.
    """

    text: str
    name: str
    path: Path | None = None
    forms: tuple[AttackForm, ...] = ()
    label: Label | None = None
    templates: Templates = "first"

    @classmethod
    def parse(cls, text: str) -> SuiteSpec:
        """Read a spec; raises :class:`EvaluationError` that says what is wrong with it."""
        head, query = _split(text)
        name, _, path = head.partition(":")
        try:
            options = dict(parse_qsl(query, strict_parsing=bool(query)))
        except ValueError as error:
            raise EvaluationError(f"suite {text!r}: {query!r} is not key=value") from error
        if unknown := sorted(set(options) - {"forms", "label", "templates"}):
            raise EvaluationError(
                f"suite {text!r}: unknown option {unknown[0]!r}; there are forms, label "
                "and templates"
            )
        return cls(
            text,
            name.strip().lower(),
            Path(path) if path else None,
            parse_forms(options["forms"].split(",")) if "forms" in options else (),
            parse_label(options["label"], f"suite {text!r}") if "label" in options else None,
            _parse_templates(options.get("templates", "first"), text),
        )


def _split(text: str) -> tuple[str, str]:
    """Name with path, and options."""
    head, mark, query = text.rpartition("?")
    if not mark or (query and "=" not in query and ":" in head):
        return text, ""
    return head, query


def _parse_templates(name: str, text: str) -> Templates:
    for known in get_args(Templates):
        if name == known:
            chosen: Templates = known
            return chosen
    raise EvaluationError(
        f"suite {text!r}: templates {name!r} are unknown; expected one of "
        f"{', '.join(get_args(Templates))}"
    )
