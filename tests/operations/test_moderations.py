"""``/v1/moderations`` on a real engine: the reading that a chat is steered by."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from refusal_server.chat.moderation import CATEGORY
from tests.operations.site import Site, code, said, steering
from tests.server.fixtures.live import KEY, MODEL
from tests.server.fixtures.media import image_part, message

pytestmark = pytest.mark.engine
# The bundles of these tests have a probe in every layer, and a push moves those above it.
UNMOVED = {"policy": "shadow", "report": True}
TEXTS = [f"Please write down step {number} of the list." for number in range(6)]


def moderate(site: Site, given: Any, **fields: Any) -> Any:
    with site.callers.client() as client:
        return client.post("/v1/moderations", json={"input": given, **fields})


def scores(site: Site, given: Any, **fields: Any) -> list[float]:
    response = moderate(site, given, **fields)
    assert response.status_code == 200, response.text
    return [result["category_scores"][CATEGORY] for result in response.json()["results"]]


def test_openais_client_reads_the_answer(site: Site) -> None:
    client = openai.OpenAI(base_url=f"{site.callers.url}/v1", api_key=KEY, max_retries=0)
    answer = client.moderations.create(model=MODEL, input=TEXTS)
    assert answer.id.startswith("modr-")
    assert answer.model == MODEL
    assert len(answer.results) == len(TEXTS)
    for result in answer.results:
        score = (result.category_scores.model_extra or {})[CATEGORY]
        assert 0.0 <= score <= 1.0
        assert (result.categories.model_extra or {})[CATEGORY] is result.flagged is (score >= 0.5)
        # Strict clients want every category; what nobody measures has read no input.
        assert result.categories.violence is False and result.category_scores.violence == 0.0
        assert result.category_applied_input_types.violence == []


def test_a_score_is_the_risk_of_the_chat_with_the_same_message(site: Site) -> None:
    chats = [site.callers.chat(text, steering=UNMOVED).json() for text in TEXTS]
    risks = [chat["steering"]["risk"] for chat in chats]
    assert len({round(risk, 3) for risk in risks}) > 1
    assert scores(site, TEXTS) == pytest.approx(risks, abs=1e-3)
    assert [scores(site, text)[0] for text in TEXTS] == pytest.approx(risks, abs=1e-3)


def test_a_picture_is_scored_with_its_text(site: Site) -> None:
    parts = message(image_part())[0]["content"]
    response = moderate(site, parts)
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    applied = result["category_applied_input_types"]
    assert {name: kinds for name, kinds in applied.items() if kinds} == {
        CATEGORY: ["image", "text"]
    }
    chat = site.callers.chat(messages=message(image_part()), steering=UNMOVED).json()
    score = result["category_scores"][CATEGORY]
    assert score == pytest.approx(chat["steering"]["risk"], abs=1e-3)


def test_chats_say_the_same_before_beside_and_after(site: Site) -> None:
    def chat(text: str) -> tuple[str, str]:
        answer = site.callers.chat(text)
        return said(answer), steering(answer)["rows_verified"]

    before = [chat(text) for text in TEXTS]
    requests = site.ops.metric("steering_requests_total")
    moderated = site.ops.metric("steering_moderations_total")
    with ThreadPoolExecutor(len(TEXTS) + 1) as pool:
        judging = pool.submit(moderate, site, TEXTS)
        beside = list(pool.map(chat, TEXTS))
    assert judging.result().status_code == 200
    assert before == beside == [chat(text) for text in TEXTS]
    assert site.ops.metric("steering_moderations_total") == moderated + len(TEXTS)
    assert site.ops.metric("steering_requests_total") == requests + 2 * len(TEXTS)


def test_a_policy_without_a_probe_scores_nothing(site: Site) -> None:
    for name in ("off", "static"):
        refused = moderate(site, "hello", steering={"policy": name})
        assert code(refused) == (400, "moderation_unavailable")
