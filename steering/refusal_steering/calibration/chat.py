"""A model's chat template: what is put around a request, and where its answer starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from refusal_steering.errors import SteeringError

_SAMPLE = "How do I boil an egg?"
_ANSWER = "Put it into boiling water."
# Templates of reasoning models take one of these names.
THINKING_OFF: Mapping[str, Any] = {"enable_thinking": False, "thinking": False}
_THINK_BLOCKS = (
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
)


class ChatTemplateError(SteeringError):
    """A model's chat template is missing, broken, or does not fit its arguments."""

    code: ClassVar[str] = "invalid_chat_template"


class UnreadablePromptError(SteeringError):
    """A prompt that is too long for the model, or in tokens that it does not know."""

    code: ClassVar[str] = "unreadable_prompt"


def quiet(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` of a chat template with thinking off, unless they say otherwise.

    A server asks its risk pass like that, so calibration reads every request like that.
    """
    return {**THINKING_OFF, **arguments}


@dataclass(frozen=True, slots=True)
class Chat:
    """A tokenizer of transformers, and the ``arguments`` that its template is given."""

    tokenizer: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text of a conversation, up to where the answer starts."""
        text: str = self.tokenizer.apply_chat_template(
            [*messages], tokenize=False, add_generation_prompt=True, **self.arguments
        )
        return text

    def encode(self, prompt: str) -> list[int]:
        """Token ids of one user message, up to where the answer starts."""
        return self._ids(_asking(prompt))

    def end_of_answer(self, stops: Collection[int]) -> int | None:
        """The first of ``stops`` that the template writes behind an answer, if it writes one."""
        told = [*_asking(_SAMPLE), {"role": "assistant", "content": _ANSWER}]
        text = self.render(told)
        if _ANSWER not in text:
            return None
        tail = text[text.rindex(_ANSWER) + len(_ANSWER) :]
        ids: list[int] = self.tokenizer(tail, add_special_tokens=False)["input_ids"]
        return next((token for token in ids if token in stops), None)

    def check(self, source: str) -> None:
        """Raise :class:`ChatTemplateError` unless the template of ``source`` carries a request."""
        if not getattr(self.tokenizer, "chat_template", None):
            raise ChatTemplateError(
                f"{source} has no chat template; put the chat_template.jinja of the model's "
                "instruct version into the folder, or use that version"
            )
        try:
            text = self.render(_asking(_SAMPLE))
        # Templates are programs: whatever they raise, they cannot be used.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ChatTemplateError(
                f"the chat template of {source} cannot be rendered with the arguments "
                f"{dict(self.arguments)}: {type(error).__name__}: {reason}"
            ) from error
        if _SAMPLE not in text:
            raise ChatTemplateError(
                f"the chat template of {source} leaves out the user's message; correct it"
            )
        if not self.encode(_SAMPLE):
            raise ChatTemplateError(
                f"the tokenizer of {source} has no vocabulary; fetch tokenizer.json with the model"
            )

    @property
    def thinks(self) -> bool:
        """Whether the template has the model think before it answers."""
        text = self.render(_asking(_SAMPLE))
        tail = text[text.rindex(_SAMPLE) :]
        if any(tail.count(opening) > tail.count(end) for opening, end in _THINK_BLOCKS):
            return True
        off = Chat(self.tokenizer, {**self.arguments, **THINKING_OFF})
        return off.render(_asking(_SAMPLE)) != text

    def check_prompts(self, prompts: Sequence[str], longest: int, vocabulary: int) -> None:
        """Raise :class:`UnreadablePromptError` for a prompt that a model cannot be given.

        It has at most ``longest`` tokens, with ids below ``vocabulary``.
        """
        for prompt in prompts:
            shown = f"the prompt that begins with {prompt[:60]!r}"
            highest = max(self.check_length(_asking(prompt), longest, shown))
            if highest >= vocabulary:
                raise UnreadablePromptError(
                    f"{shown} has the token {highest}, and the model knows {vocabulary}; the "
                    "tokenizer is of another model"
                )

    def check_length(
        self, messages: Sequence[Mapping[str, Any]], longest: int, shown: str
    ) -> list[int]:
        """Token ids of a conversation, which errors call ``shown``, if they are few enough."""
        ids = self._ids(messages)
        if len(ids) > longest:
            raise UnreadablePromptError(
                f"{shown} has {len(ids)} tokens with its template; at most {longest} are possible, "
                "shorten it"
            )
        return ids

    def _ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        text = self.render(messages)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _asking(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
