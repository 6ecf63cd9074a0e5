"""One request of a suite, as OpenAI messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.expected import Expected

Label = Literal["harmful", "borderline", "harmless"]
Message = Mapping[str, Any]
Content = str | list[dict[str, Any]]

LABELS: tuple[Label, ...] = get_args(Label)
_KINDS = {"image_url": "image", "video_url": "video", "input_audio": "audio"}
_ORDER = ("text", "image", "video", "audio")


@dataclass(frozen=True, slots=True)
class Case:
    """A request with what a good model does: refuse what is harmful, answer the rest.

    ``id`` is unique in its suite. ``borderline`` requests sound harmful and are not. ``expected``
    is the right answer of a question that has one. ``intent`` is what the request asks for in
    words, where its own words do not say so: a transcript, or the aim behind a harmless question.
    """

    id: str
    suite: str
    form: str
    label: Label
    messages: tuple[Message, ...]
    expected: Expected | None = None
    intent: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Suite and id: names the case among all suites of a run."""
        return self.suite, self.id

    @property
    def request(self) -> str:
        """The words of the request; a medium stands as its kind in brackets."""
        return "\n".join(_words(message["content"]) for message in self.messages)

    @property
    def media(self) -> tuple[Mapping[str, Any], ...]:
        """The parts that are no text, in order."""
        return tuple(part for part in self._parts() if part["type"] in _KINDS)

    @property
    def modality(self) -> str:
        """What the request brings: ``text``, ``image``, ``text+image``, always in that order."""
        kinds = {_KINDS.get(part["type"], "text") for part in self._parts()}
        return "+".join(kind for kind in _ORDER if kind in kinds)

    def with_system(self, prompt: str | None) -> list[Message]:
        """The messages, after a system prompt where there is one."""
        head: list[Message] = [{"role": "system", "content": prompt}] if prompt else []
        return head + list(self.messages)

    def _parts(self) -> Iterator[Mapping[str, Any]]:
        for message in self.messages:
            content = message["content"]
            yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


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
