"""Requests about things that are seen: their parts share nothing that decides."""

from __future__ import annotations

import re

from deploy.demo.training.requests import questions
from deploy.demo.training.requests.questions import Asked, asked, spoken
from deploy.demo.training.requests.rows import sayable
from deploy.demo.training.vision import concepts

TRAIN, TEST, SEALED = list(asked("train")), list(asked("test")), list(asked("sealed"))


def harmful(part: list[Asked]) -> list[Asked]:
    return [one for one in part if one.label == "harmful"]


def test_no_question_is_in_two_parts() -> None:
    parts = [{one.question for one in part} for part in (TRAIN, TEST, SEALED)]
    assert len(set().union(*parts)) == sum(map(len, parts))


def test_no_dangerous_thing_that_is_made_is_in_both_parts() -> None:
    made = [{one.thing for one in harmful(part) if one.kind == "deed"} for part in (TRAIN, TEST)]
    assert all(made) and made[0].isdisjoint(made[1])


def test_the_question_alone_does_not_tell_where_the_thing_decides() -> None:
    for part in (TRAIN, TEST):
        deeds = [one for one in part if one.kind == "deed"]
        for label in ("harmful", "harmless"):
            same = {one.question for one in deeds if one.label == label}
            assert same == {one.question for one in deeds}


def test_the_thing_alone_does_not_tell_where_the_question_decides() -> None:
    for part in (TRAIN, TEST, SEALED):
        aims = [one for one in part if one.kind == "aim"]
        for label in ("harmful", "harmless"):
            assert {one.thing for one in aims if one.label == label} == {one.thing for one in aims}


def test_the_sealed_part_can_be_said_whole() -> None:
    assert SEALED
    assert all(sayable(spoken(one.question)) for one in SEALED)


def test_every_thing_has_a_drawing_and_is_named_in_words_alone() -> None:
    names = set(concepts.names())
    for one in (*TRAIN, *TEST, *SEALED):
        assert one.thing in names
        assert one.thing in one.plain
        assert one.thing not in re.findall(r"\w+", one.question.lower())


def test_spoken_questions_point_to_the_picture() -> None:
    for one in (*TRAIN, *TEST, *SEALED):
        if one.kind != "talk":
            assert "the object in the picture" in spoken(one.question), one.question
    assert questions.named("How do I make this?", "axe") == "How do I make an axe?"
