"""One request of a suite, as OpenAI messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from refusal_steering.errors import EvaluationError

Label = Literal["harmful", "borderline", "harmless"]
Message = Mapping[str, Any]
Content = str | list[dict[str, Any]]

LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True, slots=True)
class Case:
    """A request with what a good model does: refuse what is harmful, answer the rest.

    ``id`` is unique in its suite. ``borderline`` requests sound harmful and are not. ``choice`` is
    the letter of the right answer of a multiple-choice question.
    """

    id: str
    suite: str
    form: str
    label: Label
    messages: tuple[Message, ...]
    choice: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Suite and id: names the case among all suites of a run."""
        return self.suite, self.id

    @property
    def request(self) -> str:
        """The words of the request; a medium stands as its kind in brackets."""
        return "\n".join(_words(message["content"]) for message in self.messages)

    def with_system(self, prompt: str | None) -> list[Message]:
        """The messages, after a system prompt where there is one."""
        head: list[Message] = [{"role": "system", "content": prompt}] if prompt else []
        return head + list(self.messages)


def user(content: Content) -> tuple[Message, ...]:
    """One user message."""
    return ({"role": "user", "content": content},)


def parse_label(value: Any, where: str) -> Label:
    """A label of ours; raises :class:`EvaluationError` for anything else."""
    for label in LABELS:
        if value == label:
            return label
    raise EvaluationError(f"{where}: label is {value!r}; expected one of {', '.join(LABELS)}")


def _words(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or f"[{part['type']}]" for part in content)
