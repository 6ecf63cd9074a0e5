"""The four forms in which people send a request, around a prompt of any suite.

The templates are those of the contrast set, number 0 of each form unless asked otherwise.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from refusal_steering.errors import EvaluationError
from refusal_steering.prompts.contrast_set import (
    FORMS,
    AttackForm,
    Item,
    new_templates,
    render,
    trained_templates,
)

# Of a form's templates: the first, or one by chance of those that calibration draws from, or of
# those that it never meets.
Templates = Literal["first", "known", "new"]


@dataclass(frozen=True, slots=True)
class Split:
    """A request cut in two: a harmless-looking ``instruction`` and the ``payload`` it points at."""

    instruction: str
    payload: str


def in_form(prompt: str, form: AttackForm, split: Split | None = None, template: int = 0) -> str:
    """``prompt`` in one template of ``form``; a known ``split`` makes a better carrier."""
    if form == "carrier" and split is not None:
        return f"{split.instruction.replace('image', 'text')}\n\n{split.payload}"
    # The label does not enter the template.
    item = Item("", "harmless", "", "whole", sentence(prompt))
    return render(item, form, template)


def chosen_template(form: AttackForm, which: Templates, key: str) -> int:
    """Number of the template of ``form`` for the row named ``key``; the same one every time."""
    if which == "first":
        return 0
    pool = new_templates(form) if which == "new" else trained_templates(form)
    # A form with one template has no new ones.
    return random.Random(f"{form}, {key}").choice(pool or trained_templates(form))


def sentence(text: str) -> str:
    """``text`` without outer blanks, with a mark at its end."""
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else text + "."


def parse_forms(names: Iterable[str]) -> tuple[AttackForm, ...]:
    """Forms by name, in the given order; raises :class:`EvaluationError` for an unknown one."""
    chosen = []
    for name in names:
        known = [form for form in FORMS if form == name]
        if not known:
            raise EvaluationError(f"form {name!r} is unknown; there are {', '.join(FORMS)}")
        chosen += known
    return tuple(dict.fromkeys(chosen))
