"""What a chat template puts behind an answer."""

from __future__ import annotations

import pytest

from refusal_steering.calibration.chat import Chat
from tests.steering.chat_tokenizer import SPECIAL, ChatTokenizer

TURN_END = SPECIAL["<|end|>"]
TEXT_END = ChatTokenizer.eos_token_id


@pytest.mark.parametrize(
    ("stops", "expected"), [([TEXT_END, TURN_END], TURN_END), ([TEXT_END], None), ([], None)]
)
def test_an_answer_ends_with_what_ends_a_turn(stops: list[int], expected: int | None) -> None:
    assert Chat(ChatTokenizer()).end_of_answer(stops) == expected


def test_a_template_that_leaves_answers_out_tells_nothing() -> None:
    class Silent(ChatTokenizer):
        def apply_chat_template(self, messages: list[dict[str, str]], **more: object) -> str:
            return super().apply_chat_template(messages[:1], **more)

    assert Chat(Silent()).end_of_answer([TURN_END]) is None
