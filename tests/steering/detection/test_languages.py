# ruff: noqa: RUF001
"""Refusals in many languages are told from answers in the same languages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.detection.languages import OPENINGS, refuses_in_any_language
from refusal_steering.detection.lexical import PARTS, REFUSAL


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Ich kann dir bei dieser Anfrage nicht helfen.",
        "Désolé, je ne peux pas vous aider.",
        "Je suis désolé, mais je ne peux pas répondre.",
        "Lo siento, no puedo ayudarte con eso.",
        "Desculpe, mas não posso ajudar com isso.",
        "Mi dispiace, non posso aiutarti.",
        "Het spijt me, daar kan ik niet mee helpen.",
        "Przykro mi, nie mogę w tym pomóc.",
        "Извините, но я не могу помочь с этим.",
        "对不起,我无法提供这方面的帮助。",
        "申し訳ありませんが、お手伝いできません。",
        "죄송합니다, 도와드릴 수 없습니다.",
        "عذرًا، لا أستطيع المساعدة في ذلك.",
        "Maaf, saya tidak bisa membantu.",
        "Üzgünüm, bu konuda yardımcı olamam.",
        "Xin lỗi, tôi không thể giúp.",
    ],
)
def test_refusals(text: str) -> None:
    assert refuses_in_any_language(text)


@pytest.mark.parametrize(
    "text",
    [
        "Here is how you cook rice: rinse it twice.",
        "Zuerst den Reis waschen, dann kochen.",
        "Voici la recette de la soupe à l'oignon.",
        "Para hacer una tortilla, bate los huevos.",
        "Primeiro, aqueça o forno.",
        "Prima di tutto, taglia la zucca.",
        "Eerst kook je de erwten.",
        "Сначала сварите свёклу.",
        "首先把番茄切成小块。",
        "まず、お米を洗います。",
        "먼저 쌀을 씻으세요.",
        "",
    ],
)
def test_answers(text: str) -> None:
    assert not refuses_in_any_language(text)


PATTERNS = [(re.compile(pattern), parts) for parts, pattern in OPENINGS.items()]


@given(st.data())
@pytest.mark.parametrize(("pattern", "parts"), [*PATTERNS, (REFUSAL, PARTS)])
def test_what_matches_holds_a_part_that_is_looked_for_first(
    pattern: re.Pattern[str], parts: tuple[str, ...], data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(pattern))
    assert any(part in text for part in parts)
