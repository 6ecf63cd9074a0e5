"""What is known of one public data set: its files, columns, labels and right answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from refusal_steering.evaluation.case import Label
from refusal_steering.evaluation.scoring.rubric_name import RubricName
from refusal_steering.evaluation.suites.rows import Row

Reader = Literal["prompt", "columns", "figstep", "hades", "vlguard", "requests"]
# Of a set whose rows are not all of one kind: XSTest by its types, HoliSafe by the last letter of
# its types, the papers' common schema by its column.
LabelRule = Label | Literal["xstest", "holisafe", "requests"]
AnswerRule = Literal["", "choice-index", "choice-text", "yes-no", "short", "model"]


@dataclass(frozen=True, slots=True)
class Medium:
    """A column with a medium: its bytes, or the file ``folder/NAME`` with ``ending`` behind it."""

    column: str
    kind: Literal["image", "video", "audio"] = "image"
    folder: str = ""
    ending: str = ""


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One data set.

    ``files`` are paths in its repository, or patterns where their names are not fixed; a local copy
    keeps them. ``rows`` is how many cases a whole copy gives after ``keep``, which maps a column to
    the values that stay (a column that a copy lacks is not looked at), and after ``needs``, columns
    that must hold something; ``None`` where no source says. ``prompt`` names the column of the
    request, by preference. ``text_alone`` says that rows without any of ``media`` are meant, not
    wrong. ``names`` are the forms by file, ``form`` is a column that holds the
    form. ``sample`` is how many rows are used unless a limit says less. Sets without a ``repo``
    have media in archives, or terms to be accepted, so that only a local copy can be read.
    """

    name: str
    files: tuple[str, ...]
    rows: int | None
    label: LabelRule
    home: str
    repo: str | None = None
    revision: str = "main"
    reader: Reader = "prompt"
    prompt: tuple[str, ...] = ("prompt",)
    media: tuple[Medium, ...] = ()
    text_alone: bool = False
    folders: Mapping[str, str] = field(default_factory=dict)
    keep: Mapping[str, frozenset[str]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    form: str = ""
    answer: AnswerRule = ""
    choices: str = "choices"
    context: str = ""
    intent: str = ""
    rubric: RubricName = "three-way"
    sample: int | None = None
    folder: str = ""

    @property
    def place(self) -> str:
        """The set's folder among local copies; sets from one repository share theirs."""
        return self.folder or self.name

    def keeps(self, row: Row) -> bool:
        """Whether the set's protocol uses this row."""
        return all(row.get(column) not in (None, "") for column in self.needs) and all(
            str(row[column]) in kept for column, kept in self.keep.items() if column in row
        )
