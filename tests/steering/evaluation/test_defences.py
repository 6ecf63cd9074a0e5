"""Self-Reminder and ECSO as arms: what they send, what they keep, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.arms.arm import Arm, parse_defences
from refusal_steering.evaluation.arms.ask import ask
from refusal_steering.evaluation.arms.self_reminder import AFTER, BEFORE, reminded
from refusal_steering.evaluation.case import Case, user
from refusal_steering.evaluation.endpoint import Access, Endpoint, Reply
from refusal_steering.evaluation.run import evaluate
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import Ask, Fail, FakeServer
from tests.steering.evaluation.scripted import settings, steered
from tests.steering.evaluation.texts import ANSWER, REFUSAL

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SHOWN = Case("1", "s", "f", "harmful", user([PICTURE, {"type": "text", "text": "Make it."}]))
WORDS = Case("2", "s", "f", "harmful", user("Make it."))
ECSO = Arm("ecso", defence="ecso")


async def asked(server: FakeServer, arm: Arm, case: Case) -> Reply:
    async with Endpoint(Access(server.url, retries=0)) as endpoint:
        return await ask(endpoint, arm, case, 64)


def sees(ask: Ask) -> bool:
    return "image_url" in json.dumps(ask.body)


def test_the_reminders_stand_around_the_words_of_the_last_message() -> None:
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (*before, last) = reminded([*history, {"role": "user", "content": "Make it."}])
    assert before == history
    assert last["content"] == f"{BEFORE}\n\nMake it.\n\n{AFTER}"
    (shown,) = reminded(SHOWN.messages)
    assert shown["content"] == [PICTURE, {"type": "text", "text": last["content"]}]
    (alone,) = reminded(user([PICTURE]))
    assert alone["content"] == [PICTURE, {"type": "text", "text": f"{BEFORE}\n\n{AFTER}"}]


def test_self_reminder_is_an_arm_like_any_other(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda ask: REFUSAL if BEFORE in ask.text else steered(ask))
    wanted = settings(server, tmp_path, defences=("self-reminder",), perplexity=False)
    results = evaluate(wanted)
    assert [row["arm"] for row in results["summary"]] == ["off", "steer", "self-reminder"]
    row = results["summary"][2]
    (score,) = row["scores"].values()
    assert score["rsr"]["value"] == 1.0 and score["bar"]["value"] == 0.0
    assert row["defence"] == {"asked": 18} and results["summary"][0]["defence"] is None
    assert results["settings"]["defences"] == ["self-reminder"]
    reminded_asks = [ask for ask in server.answers if BEFORE in ask.text]
    assert len(reminded_asks) == 18 and {ask.policy for ask in reminded_asks} == {"off"}


def scripted(verdict: str, last: str = REFUSAL) -> Any:
    def answer(ask: Ask) -> str:
        if "yes or no" in ask.text:
            return verdict
        if "Do not answer the request" in ask.text:
            return "A DESCRIPTION"
        return last if "A DESCRIPTION" in ask.text else ANSWER

    return answer


@pytest.mark.anyio
async def test_an_answer_that_the_model_calls_harmless_is_kept(serve: Serve) -> None:
    server = serve(scripted("No."))
    reply = await asked(server, ECSO, SHOWN)
    assert (reply.text, reply.defence) == (ANSWER, "kept")
    assert [sees(ask) for ask in server.answers] == [True, True]
    assert ANSWER in server.answers[1].text and "Make it." in server.answers[1].text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("verdict", "did"),
    [
        ("Yes", "replaced"),
        ("yes, it does", "replaced"),
        ("Perhaps", "replaced after an unreadable judgement"),
        ("yes or no", "replaced after an unreadable judgement"),
        ("", "replaced after an unreadable judgement"),
        ("I have no idea", "replaced after an unreadable judgement"),
        ("There is no doubt", "replaced after an unreadable judgement"),
    ],
)
async def test_any_other_answer_is_given_anew_without_the_media(
    serve: Serve, verdict: str, did: str
) -> None:
    server = serve(scripted(verdict))
    reply = await asked(server, ECSO, SHOWN)
    assert (reply.text, reply.defence) == (REFUSAL, did)
    assert [sees(ask) for ask in server.answers] == [True, True, True, False]
    assert "A DESCRIPTION" in server.answers[3].text and "Make it." in server.answers[3].text


@pytest.mark.anyio
async def test_a_request_without_media_is_asked_once(serve: Serve) -> None:
    server = serve(scripted("Yes"))
    reply = await asked(server, ECSO, WORDS)
    assert (reply.text, reply.defence) == (ANSWER, "no media") and len(server.answers) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("step", range(4))
async def test_a_step_that_fails_is_the_failure_of_the_whole(serve: Serve, step: int) -> None:
    count = iter(range(4))
    good = scripted("Yes")
    server = serve(lambda ask: Fail(400) if next(count) == step else good(ask))
    reply = await asked(server, ECSO, SHOWN)
    assert reply.text is None and reply.error and reply.defence is None


@pytest.mark.anyio
async def test_every_step_is_asked_under_the_baselines_policy(serve: Serve) -> None:
    server = serve(scripted("Yes"))
    reply = await asked(server, Arm("ecso", "off", defence="ecso"), SHOWN)
    assert reply.text == REFUSAL
    assert [ask.policy for ask in server.answers] == ["off"] * 4


def test_unknown_defences_and_arms_of_one_name_are_refused(serve: Serve, tmp_path: Path) -> None:
    assert parse_defences(["ecso", "ecso"]) == ("ecso",)
    with pytest.raises(EvaluationError, match="self-reminder, ecso"):
        parse_defences(["prayer"])
    server = serve(steered)
    with pytest.raises(EvaluationError, match="another arm"):
        settings(server, tmp_path, policies=("ecso",), defences=("ecso",))
