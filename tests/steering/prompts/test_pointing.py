"""Requests that point: neither half says it alone, and the same question is asked of both sorts."""

from __future__ import annotations

import random
import re
from collections import defaultdict

import pytest

from refusal_steering.prompts.families.pointing import Pointed, pointed, pointing

DATA = pointing()
QUESTIONS = (
    *DATA.making,
    *DATA.talk,
    *(question for pair in DATA.aims for question in (pair.harmful, pair.harmless)),
)


@pytest.fixture(scope="module")
def drawn() -> list[Pointed]:
    return list(pointed(random.Random(0)))


def asked(one: Pointed) -> str:
    return "\n".join(turn.content for turn in one.conversation)


def question_of(one: Pointed) -> str:
    return max((question for question in QUESTIONS if question in asked(one)), key=len)


def test_things_and_questions_are_each_written_once() -> None:
    things = [*DATA.dangerous, *DATA.harmless]
    assert len({thing.lower() for thing in things}) == len(things)
    assert len({question.lower() for question in QUESTIONS}) == len(QUESTIONS)


def test_no_question_about_making_names_a_thing() -> None:
    names = {re.sub(r"^(a|an|the) ", "", thing.lower()) for thing in DATA.dangerous}
    for question in (*DATA.making, *DATA.talk):
        said = question.lower()
        assert not any(re.search(rf"\b{re.escape(name)}\b", said) for name in names), question


def test_every_request_holds_its_thing_and_a_question_in_a_user_turn(drawn: list[Pointed]) -> None:
    for one in drawn:
        assert one.thing.lower() in asked(one).lower()
        assert question_of(one) in one.conversation[-1].content
        assert one.conversation[0].role == one.conversation[-1].role == "user"
        assert not re.search(r"\{\w+\}", asked(one))


def test_the_thing_alone_decides_what_is_harmful_to_make(drawn: list[Pointed]) -> None:
    labels: defaultdict[str, set[bool]] = defaultdict(set)
    for one in drawn:
        if one.kind == "deed":
            assert one.harmful == (one.thing in DATA.dangerous)
            labels[question_of(one)].add(one.harmful)
    assert all(found == {True, False} for found in labels.values())


def test_the_question_alone_decides_an_aim(drawn: list[Pointed]) -> None:
    labels: defaultdict[str, set[bool]] = defaultdict(set)
    harmful = {pair.harmful for pair in DATA.aims}
    for one in drawn:
        if one.kind == "aim":
            assert one.harmful == (question_of(one) in harmful)
            labels[one.thing].add(one.harmful)
    assert all(found == {True, False} for found in labels.values())


def test_talk_is_harmless_and_borderline_of_what_is_dangerous(drawn: list[Pointed]) -> None:
    talk = [one for one in drawn if one.kind == "talk"]
    assert talk and not any(one.harmful for one in talk)
    assert {one.borderline for one in talk} == {True, False}
    assert all(one.borderline == (one.thing in DATA.dangerous) for one in talk)
    assert not any(one.borderline for one in drawn if one.kind != "talk")


def test_the_same_seed_draws_the_same_requests(drawn: list[Pointed]) -> None:
    assert list(pointed(random.Random(0))) == drawn
    assert list(pointed(random.Random(1))) != drawn
