"""``POST /v1/moderations``: one measured token for each input, nothing steered."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from openai.types import ModerationCreateResponse

from refusal_server.access.budget import Budgets
from refusal_server.access.denials import Denials
from refusal_server.access.places import requests_in_progress
from refusal_server.caller import ANYONE, Caller
from refusal_server.chat.internal import InternalChat
from refusal_server.chat.moderation import CATEGORY, ModerationService
from refusal_server.errors import ApiError
from refusal_server.events import NoEvents
from refusal_server.http import error_handlers
from refusal_server.http.json_body import JsonLimits
from refusal_server.routes import moderations
from refusal_server.settings import Moderation
from refusal_steering.errors import SteeringUnavailableError
from tests.server.fixtures.media import audio_part, image_part, video_part
from tests.server.fixtures.ranks import resting_store
from tests.server.fixtures.scripted import Call, Rig, Script

PROBED = "omnisteer"


class ModerationRig(Rig):
    def __init__(self, folder: Path, script: Script, **settings: Any) -> None:
        super().__init__(folder, script)
        self.moderation = ModerationService(
            self.intake, InternalChat(script), self.metrics, Moderation(**settings)
        )

    def moderate(self, given: Any, policy: str = PROBED, **fields: Any) -> dict[str, Any]:
        async def run() -> dict[str, Any]:
            body = {"input": given, "steering": {"policy": policy}, **fields}
            calls = await self.moderation.admit(body, self.policies, ANYONE, "r1")
            return await self.moderation.moderate(calls)

        return asyncio.run(run())

    def refused(self, given: Any, policy: str = PROBED, **fields: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            self.moderate(given, policy, **fields)
        return caught.value


@pytest.fixture
def rig(tmp_path: Path) -> ModerationRig:
    return ModerationRig(tmp_path, Script(risk_logit=2.0), inputs=4)


def test_the_score_is_the_probes_reading(rig: ModerationRig) -> None:
    answer = rig.moderate("How?")
    (result,) = answer["results"]
    expected = 1 / (1 + math.exp(-2.0))
    assert result["category_scores"][CATEGORY] == pytest.approx(expected, abs=1e-6)
    assert [name for name, found in result["categories"].items() if found] == [CATEGORY]
    assert result["flagged"] is True
    assert answer["id"].startswith("modr-")
    assert answer["model"] == "m"


def test_a_strict_client_reads_it_and_sees_what_was_not_measured(rig: ModerationRig) -> None:
    read = ModerationCreateResponse.model_validate(rig.moderate("How?"), strict=True)
    assert read.results[0].flagged is True
    assert read.results[0].categories.violence is False
    assert read.results[0].category_scores.violence == 0.0
    assert read.results[0].category_applied_input_types.violence == []


@pytest.mark.parametrize("policy", [PROBED, "cascade", "shadow-cascade"])
def test_nothing_is_steered_and_one_token_is_asked(rig: ModerationRig, policy: str) -> None:
    rig.moderate("How?", policy)
    (call,) = rig.script.calls
    assert call.kind == "probe"
    assert call.request.max_completion_tokens == 1
    assert call.directive is not None
    assert call.directive.shadow
    assert (call.directive.applied_strength, call.directive.applied_blend) == (0.0, 0.0)


def test_the_threshold_decides(tmp_path: Path) -> None:
    for threshold, flagged in ((0.5, False), (0.3, True)):
        folder = tmp_path / str(threshold)
        folder.mkdir()
        rig = ModerationRig(folder, Script(risk_logit=-0.5), threshold=threshold)
        assert rig.moderate("How?")["results"][0]["flagged"] is flagged


def test_a_list_of_texts_is_scored_side_by_side_and_in_order(tmp_path: Path) -> None:
    running, most = 0, 0

    async def before(call: Call) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        script.risk_logit = float(call.text)

    script = Script(before=before)
    rig = ModerationRig(tmp_path, script)
    results = rig.moderate(["-1", "0", "1"])["results"]
    scores = [result["category_scores"][CATEGORY] for result in results]
    assert scores == [pytest.approx(1 / (1 + math.exp(-x)), abs=1e-6) for x in (-1, 0, 1)]
    assert most == 3


def test_parts_are_one_input(rig: ModerationRig) -> None:
    answer = rig.moderate([{"type": "text", "text": "How?"}, image_part()])
    (result,) = answer["results"]
    assert result["category_applied_input_types"][CATEGORY] == ["image", "text"]
    (call,) = rig.script.calls
    assert call.directive is not None
    assert call.directive.media == ("image",)


@pytest.mark.parametrize(
    ("part", "medium"), [(image_part, "image"), (audio_part, "audio"), (video_part, "video")]
)
def test_every_medium_may_be_asked_about(rig: ModerationRig, part: Any, medium: str) -> None:
    nulls = {"text": None, "cache_control": None}
    (result,) = rig.moderate([{**part(), **nulls}], user=None, model=None)["results"]
    assert result["category_applied_input_types"][CATEGORY] == [medium]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "  ",
        [],
        5,
        {},
        [5],
        ["a", {"type": "text", "text": "b"}],
        ["a", ""],
        ["a"] * 5,
        [{"type": "text"}],
        [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}],
        [{"type": "image_url", "image_url": {"url": "data:image/png,abc"}}],
        [{"type": "image_url", "image_url": "x"}],
        [{"type": "text", "text": "a", "extra": 1}],
    ],
)
def test_bad_inputs_are_400_and_nothing_runs(rig: ModerationRig, given: Any) -> None:
    assert rig.refused(given).status == 400
    assert rig.script.calls == []


def test_other_refusals(rig: ModerationRig) -> None:
    assert rig.refused("How?", model="omni-moderation-latest").code == "model_not_found"
    assert rig.refused("How?", "off").code == "moderation_unavailable"
    assert rig.refused("How?", "static").code == "moderation_unavailable"
    assert rig.refused("How?", "nowhere").code == "invalid_steering"
    assert rig.refused("How?", temperature=1).status == 400
    assert rig.script.calls == []


def test_an_error_of_one_input_is_the_answer_and_is_counted(rig: ModerationRig) -> None:
    rig.script.says["probe"] = SteeringUnavailableError("no proof")
    assert rig.refused(["a", "b"]).code == "steering_unavailable"
    assert rig.count("steering_moderations_total", outcome="error") == 1


def test_inputs_are_counted(rig: ModerationRig) -> None:
    rig.moderate(["a", "b"])
    assert rig.count("steering_moderations_total", outcome="flagged", policy=PROBED) == 2
    assert rig.count("steering_requests_total") == 0


def test_the_route(rig: ModerationRig, tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(moderations.router)
    error_handlers.install(app)
    app.state.service = SimpleNamespace(
        json_limits=JsonLimits(),
        moderation=rig.moderation,
        policies=resting_store(tmp_path / "policy.yaml", rig.policies),
        budgets=Budgets(),
        denials=Denials(rig.metrics, NoEvents()),
        concurrency=requests_in_progress(),
    )

    @app.middleware("http")
    async def name_the_caller(request: Request, call_next: Any) -> Any:
        request.state.caller = caller
        return await call_next(request)

    caller = Caller(name="a", policies=frozenset({PROBED}), requests_per_minute=3)
    client = TestClient(app)
    body = {"input": ["a", "b"], "steering": {"policy": PROBED}}
    answer = client.post(moderations.PATH, json=body)
    assert answer.status_code == 200
    assert len(answer.json()["results"]) == 2
    foreign = client.post(moderations.PATH, json={"input": "a", "steering": {"policy": "cascade"}})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "policy_not_allowed")
    assert client.post(moderations.PATH, content=b"[]").status_code == 400
    assert client.post(moderations.PATH, json=body).status_code == 429
    assert rig.count("steering_denied_total") == 2
