"""Conversations as the token ids that a model is shown, and which of them count."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refusal_steering.calibration.chat import Chat, ChatTemplateError
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.gate.prompt_gate import first_counted
from refusal_steering.prompts.families.conversation import Conversation, Turn

_log = logging.getLogger(__name__)
_MARK = "\u241f"
MARKED: Conversation = (Turn("user", _MARK), Turn("assistant", _MARK), Turn("user", _MARK))
"""Three turns whose rendering shows what a template writes between them."""


@dataclass(frozen=True, slots=True)
class TokenPrompts:
    """Token ids of N prompts. Those from ``count_from[n]`` to the end count, by the gate's rule.

    ``user_turn`` are the ids that open a user turn; empty where the chat template has none.
    """

    token_ids: tuple[tuple[int, ...], ...]
    count_from: tuple[int, ...]
    user_turn: tuple[int, ...]

    @classmethod
    def of(cls, target: CalibrationModel, conversations: Iterable[Conversation]) -> TokenPrompts:
        """Conversations under the model's chat template."""
        opening = user_turn(target)
        ids = tuple(tuple(encode(target, conversation)) for conversation in conversations)
        return cls(ids, tuple(first_counted(one, opening) for one in ids), opening)

    @property
    def starts(self) -> Tensor:
        """Prompt n owns the rows ``starts[n]`` to ``starts[n + 1]`` [N + 1]."""
        pairs = zip(self.token_ids, self.count_from, strict=True)
        counts = torch.tensor([0, *(len(ids) - first for ids, first in pairs)])
        return counts.cumsum(0)


def encode(target: CalibrationModel, conversation: Conversation) -> list[int]:
    """Token ids of a conversation under the chat template, up to the answer's start.

    A system prompt is left out where the template takes none. Raises :class:`ChatTemplateError`
    for a template that takes no conversation.
    """
    return _tokens(target.tokenizer, _text(target, conversation))


def user_turn(target: CalibrationModel) -> tuple[int, ...]:
    """Token ids with which the chat template opens a user turn, and no other turn.

    Empty for a template that opens turns without a special token: its prompts are then read from
    their start, which is more than meant and never less.
    """
    return turn_opening(_text(target, MARKED), target.tokenizer)


def turn_opening(text: str, tokenizer: Any) -> tuple[int, ...]:
    """The same, from the ``text`` that a chat template makes of the turns :data:`MARKED`."""
    parts = text.split(_MARK)
    special = set(getattr(tokenizer, "added_tokens_decoder", ()))
    if len(parts) == len(MARKED) + 1:
        answer, question = (_tokens(tokenizer, part) for part in parts[1:3])
        for start in reversed(range(len(question))):
            opening = question[start:]
            if opening[0] in special and not _within(opening, answer):
                return tuple(opening)
    _log.warning("the chat template opens a user turn with no special token; all tokens count")
    return ()


def _text(target: CalibrationModel, conversation: Conversation) -> str:
    messages = [{"role": turn.role, "content": turn.content} for turn in conversation]
    try:
        return Chat(target.tokenizer, target.template_arguments).render(messages)
    # Templates are programs: whatever they raise, they do not take this.
    except Exception as error:
        if conversation[0].role == "system":
            return _text(target, conversation[1:])
        roles = ", ".join(turn.role for turn in conversation)
        raise ChatTemplateError(
            f"the chat template cannot render the turns {roles}: {error}"
        ) from error


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _within(few: Sequence[int], many: Sequence[int]) -> bool:
    size = len(few)
    return any(list(many[at : at + size]) == list(few) for at in range(len(many) - size + 1))
