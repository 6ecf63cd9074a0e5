"""Who is told risks and coefficients: a switch of the policy, wherever they would stand."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.requests import Request

from refusal_server.access.key_file import load_keyring
from refusal_server.caller import ANYONE, Caller
from refusal_server.chat.internal import InternalChat
from refusal_server.chat.moderation import ModerationService
from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError
from refusal_server.settings import Moderation
from tests.server.fixtures.console_rig import ConsoleRig, Operator
from tests.server.fixtures.scripted import SCOPE, Rig, Script

STRATEGIES = ("static", "omnisteer", "ras", "cascade")
SWITCHES = ("everyone", "keys", "nobody")
RIGHT, NONE = Caller("a", sight="granted"), Caller("b")
TOLD = [("everyone", ANYONE), ("everyone", NONE), ("everyone", RIGHT), ("keys", RIGHT)]
NOT_TOLD = [("keys", ANYONE), ("keys", NONE), ("nobody", NONE), ("nobody", RIGHT)]
SECRET = {"risk", "coefficient", "dose", "rows_verified", "tokens", "blended", "risk_pass"}
REFUSAL = "I'm sorry, but I can't help with that."


def rig(folder: Path, switch: str, mode: str = "enforce", script: Script | None = None) -> Rig:
    rules: dict[str, dict[str, Any]] = {
        name: {"mode": mode, "bundle": name, "report_to": switch} for name in STRATEGIES
    }
    return Rig(folder, script or Script(risk_logit=2.0), rules)


def whole(found: Rig, policy: str, caller: Caller, **fields: Any) -> dict[str, Any]:
    return found.ask(policy, caller=caller, **fields)


def streamed(found: Rig, policy: str, caller: Caller, **fields: Any) -> dict[str, Any]:
    """The header and the last report of a stream, as :func:`whole` gives them."""

    async def run() -> dict[str, Any]:
        response = await found.answer(policy, caller=caller, stream=True, **fields)
        texts = [event.removeprefix("data: ") async for event in response.body_iterator]
        chunks = [json.loads(text) for text in texts if "[DONE]" not in text]
        reports = [chunk["steering"] for chunk in chunks if "steering" in chunk]
        pairs = (pair.split("=") for pair in response.headers["x-steering"].split(";"))
        return {"header": dict(pairs), "steering": reports[-1]}

    return asyncio.run(run())


KINDS = pytest.mark.parametrize("kind", [whole, streamed])


@KINDS
@pytest.mark.parametrize("policy", STRATEGIES)
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize(("switch", "caller"), NOT_TOLD)
def test_who_is_not_told_reads_no_figure(
    tmp_path: Path, kind: Any, policy: str, mode: str, switch: str, caller: Caller
) -> None:
    answer = kind(rig(tmp_path, switch, mode), policy, caller)
    assert set(answer["header"]) == {"policy", "version", "strategy", "mode"}
    report = answer["steering"]
    assert report["withheld"] is True
    assert report["policy"] == policy
    assert not SECRET & set(report)
    assert set(report) == {"policy", "version", "strategy", "mode", "strength", "withheld"}


@KINDS
@pytest.mark.parametrize("policy", STRATEGIES)
@pytest.mark.parametrize(("switch", "caller"), TOLD)
def test_who_is_told_reads_what_everyone_did_before(
    tmp_path: Path, kind: Any, policy: str, switch: str, caller: Caller
) -> None:
    answer = kind(rig(tmp_path, switch), policy, caller)
    assert {"coefficient", "risk", "rows_verified"} <= set(answer["header"])
    assert {"coefficient", "risk", "tokens"} <= set(answer["steering"])
    assert "withheld" not in answer["steering"]


@KINDS
@pytest.mark.parametrize(("switch", "caller"), NOT_TOLD)
def test_the_guards_refusal_tells_no_figure_either(
    tmp_path: Path, kind: Any, switch: str, caller: Caller
) -> None:
    script = Script(says={"draft": REFUSAL})
    form = {"response_format": {"type": "json_object"}}
    answer = kind(rig(tmp_path, switch, script=script), "omnisteer", caller, **form)
    assert script.of("draft") and not script.of("answer")
    assert not SECRET & {*answer["header"], *answer["steering"]}


@pytest.mark.parametrize(("switch", "caller"), [*TOLD, *NOT_TOLD])
def test_a_score_of_moderation_is_a_risk(tmp_path: Path, switch: str, caller: Caller) -> None:
    found = rig(tmp_path, switch)
    service = ModerationService(
        found.intake, InternalChat(found.script), found.metrics, Moderation()
    )
    body = {"input": "How?", "steering": {"policy": "omnisteer"}}
    asked = service.admit(body, found.policies, caller, "r")
    if (switch, caller) in TOLD:
        assert len(asyncio.run(asked)) == 1
        return
    with pytest.raises(ApiError) as caught:
        asyncio.run(asked)
    assert (caught.value.status, caught.value.code) == (403, "report_not_allowed")
    assert not found.script.calls


@pytest.mark.parametrize("switch", SWITCHES)
def test_operators_are_always_told(tmp_path: Path, switch: str) -> None:
    rules = {"static": {"mode": "enforce", "bundle": "static", "report_to": switch}}
    steered = Operator(ConsoleRig(tmp_path, rules)).played()["steered"]
    assert steered["coefficient"] is not None
    assert steered["tokens"]


@pytest.mark.parametrize("switch", SWITCHES)
def test_metrics_and_recent_requests_know_what_the_caller_is_not_told(
    tmp_path: Path, switch: str
) -> None:
    found = rig(tmp_path, switch)

    async def run() -> None:
        await found.service.respond(await found.admit("static", caller=NONE), Request(SCOPE))

    asyncio.run(run())
    assert found.count("steering_coefficient_count", policy="static") == 1
    assert found.count("steering_coefficient_sum", policy="static") > 0


def test_the_right_is_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    listed = [{"name": "a", "sha256": "a" * 64, "reports": True}, {"name": "b", "sha256": "b" * 64}]
    path.write_text(yaml.safe_dump({"keys": listed}))
    assert [caller.sight for _, caller in load_keyring(path).entries] == ["granted", "open"]


@pytest.mark.parametrize("switch", ["anyone", "", 1, True, ["a"], "None"])
def test_another_word_is_refused(tmp_path: Path, switch: Any) -> None:
    with pytest.raises(FileError, match="report_to"):
        rig(tmp_path, switch)


@pytest.mark.parametrize("right", ["yes", 1, "true", []])
def test_a_right_that_is_no_boolean_is_refused(tmp_path: Path, right: Any) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": [{"name": "a", "sha256": "a" * 64, "reports": right}]}))
    with pytest.raises(FileError, match="reports"):
        load_keyring(path)
