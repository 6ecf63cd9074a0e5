"""Which tokens of a conversation count, and how the opening of a user turn is found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.prompts import TokenPrompts, encode, user_turn
from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from refusal_steering.prompts.families.conversation import Turn
from tests.steering.calibration.token_rows.indices import CONVERSATIONS
from tests.steering.chat_tokenizer import END, START, USER_TURN, ChatTokenizer
from tests.steering.conftest import WordTokenizer


def test_the_opening_of_a_user_turn_is_that_of_no_other_turn(chat: CalibrationModel) -> None:
    assert user_turn(chat) == USER_TURN


class Headed(ChatTokenizer):
    """Closes the role with a special token, as Llama's template does."""

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        turns = (f"{START}{m['role']}{END}\n{m['content']}{END}" for m in messages)
        return "".join(turns) + f"{START}assistant{END}\n"


def test_a_special_token_behind_the_role_does_not_open_the_turn(chat: CalibrationModel) -> None:
    headed = replace(chat, tokenizer=Headed())
    assert user_turn(headed) == (2, 4, 3, 6)


def test_a_template_without_a_token_for_turns_is_read_from_its_start(
    target: CalibrationModel,
) -> None:
    class Plain(WordTokenizer):
        added_tokens_decoder: dict[int, str] = {}  # noqa: RUF012

    plain = TokenPrompts.of(replace(target, tokenizer=Plain()), [(Turn("user", "one two"),)])
    assert plain.user_turn == () and plain.count_from == (0,)


def test_what_counts_is_what_the_served_reader_counts(chat: CalibrationModel) -> None:
    prompts = TokenPrompts.of(chat, CONVERSATIONS)
    probe = TokenProbe.maximum(torch.ones(32), 0.0)
    gate = PromptGate({1: probe}, "max", 0.0, 1.0, user_turn=prompts.user_turn)
    assert prompts.count_from == tuple(gate.count_from(ids) for ids in prompts.token_ids)
    assert prompts.starts.tolist() == [0, *prompts.starts[1:].tolist()]
    counts = prompts.starts.diff().tolist()
    assert counts == [
        len(i) - f for i, f in zip(prompts.token_ids, prompts.count_from, strict=True)
    ]


@pytest.mark.parametrize("blank", ["", "\n"])
def test_the_first_user_turn_is_read_whatever_it_begins_with(
    chat: CalibrationModel, blank: str
) -> None:
    turns = (Turn("user", blank + "harm"), Turn("assistant", "no"), Turn("user", "again"))
    prompts = TokenPrompts.of(chat, [turns])
    ((ids,), (first,)) = prompts.token_ids, prompts.count_from
    word = encode(chat, (Turn("user", "harm"),))[3]
    assert ids[first] == word
