"""What a report tells of a gate: where the most risk stands, and the risk along the prompt."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from refusal_server.caller import Caller
from refusal_server.chat.steering_field import parse_ask
from refusal_server.errors import ApiError
from refusal_steering.directive import MAX_TOKEN_RISKS
from refusal_steering.gate.prompt_tokens import PromptTokens
from tests.server.fixtures.gated import FIRST, PROMPT, SCORES, WORDS, gated_rig, gated_script
from tests.server.fixtures.scripted import Rig

NONE, RIGHT = Caller("b"), Caller("a", sight="granted")


def whole(rig: Rig, policy: str, **fields: Any) -> Any:
    return rig.ask(policy, **fields)["steering"]


def streamed(rig: Rig, policy: str, **fields: Any) -> Any:
    return next(c["steering"] for c in rig.stream(policy, **fields) if "steering" in c)


KINDS = pytest.mark.parametrize("kind", [whole, streamed])


def along(rig: Rig, limit: int, kind: Any = whole) -> Any:
    return kind(rig, "gated", steering={"token_risks": limit})["gate"]["token_risks"]


def risk(score: float) -> float:
    return 1.0 / (1.0 + math.exp(-score))


@KINDS
def test_the_report_says_where(tmp_path: Path, kind: Any) -> None:
    gate = kind(gated_rig(tmp_path), "gated")["gate"]
    assert (gate["score"], gate["opening"], gate["threshold"]) == (1.75, 1.0, 0.5)
    assert (gate["position"], gate["modality"], gate["text"]) == (6, "image", None)
    assert gate["risk"] == pytest.approx(risk(2.0), abs=1e-4)
    assert gate["layers"] == [
        {"layer": 0, "score": 1.5, "position": 4, "modality": "text"},
        {"layer": 1, "score": 2.0, "position": 6, "modality": "image"},
    ]
    assert "token_risks" not in gate


def test_a_text_token_is_told_with_its_text(tmp_path: Path) -> None:
    script = gated_script()
    script.prompt = PromptTokens(PROMPT.ids)
    gate = whole(gated_rig(tmp_path, script), "gated")["gate"]
    assert (gate["modality"], gate["text"]) == ("text", WORDS[6])


def test_a_prompt_that_is_not_known_is_told_by_position_only(tmp_path: Path) -> None:
    script = gated_script()
    script.prompt = None
    rig = gated_rig(tmp_path, script)
    gate = whole(rig, "gated", steering={"token_risks": 100})["gate"]
    assert (gate["position"], gate["modality"], gate["text"]) == (6, None, None)
    assert (gate["token_risks"]["texts"], gate["token_risks"]["media"]) == (None, [])
    assert len(gate["token_risks"]["risks"]) == len(SCORES)


@KINDS
def test_the_risk_of_every_token_is_told_with_what_it_stands_for(tmp_path: Path, kind: Any) -> None:
    found = along(gated_rig(tmp_path), 100, kind)
    assert (found["first"], found["stride"]) == (FIRST, 1)
    assert found["risks"] == pytest.approx([risk(score) for score in SCORES], abs=1e-4)
    assert found["threshold"] == pytest.approx(risk(0.5), abs=1e-4)
    text = ["How", " do", " I", None, None, None, None, "?", None, None, None, None]
    assert found["texts"] == text
    grid = {"frames": 1, "rows": 2, "columns": 2}
    assert found["media"] == [
        {"modality": "image", "first": 5, "count": 4, "grid": grid, "seconds": None},
        {"modality": "audio", "first": 10, "count": 2, "grid": None, "seconds": 0.08},
        {"modality": "video", "first": 12, "count": 2, "grid": None, "seconds": None},
    ]


def test_no_more_is_told_than_was_asked_for_and_the_highest_always(tmp_path: Path) -> None:
    rig = gated_rig(tmp_path)
    for limit in range(1, len(SCORES) + 2):
        found = along(rig, limit)
        assert len(found["risks"]) == len(found["texts"]) <= limit
        assert max(found["risks"]) == pytest.approx(risk(max(SCORES)), abs=1e-4)
        assert "".join(text or "" for text in found["texts"]) == "How do I?"


@KINDS
@pytest.mark.parametrize(("switch", "caller"), [("keys", NONE), ("nobody", RIGHT)])
def test_who_may_not_read_risks_is_told_nothing_and_nothing_is_measured_for_them(
    tmp_path: Path, kind: Any, switch: str, caller: Caller
) -> None:
    rig = gated_rig(tmp_path, report_to=switch)
    report = kind(rig, "gated", caller=caller, steering={"token_risks": 9})
    assert report["withheld"] is True
    assert not {"gate", "token_risks"} & set(report)
    (call,) = rig.script.of("answer")
    assert call.directive is not None
    assert call.directive.token_risks == 0


def test_who_has_the_right_reads_all_of_it(tmp_path: Path) -> None:
    rig = gated_rig(tmp_path, report_to="keys")
    report = whole(rig, "gated", caller=RIGHT, steering={"token_risks": 9})
    assert report["gate"]["token_risks"]["risks"]


@KINDS
def test_the_guards_refusal_says_where_too(tmp_path: Path, kind: Any) -> None:
    script = gated_script(draft="I'm sorry, but I can't help with that.")
    form = {"response_format": {"type": "json_object"}}
    report = kind(gated_rig(tmp_path, script), "gated", steering={"token_risks": 9}, **form)
    assert script.of("draft") and not script.of("answer")
    assert report["gate"]["position"] == 6
    assert len(report["gate"]["token_risks"]["risks"]) <= 9


def test_without_a_gate_there_is_none_to_tell_of(tmp_path: Path) -> None:
    rig = gated_rig(tmp_path)
    for policy in ("static", "omnisteer", "ras", "off"):
        assert whole(rig, policy, steering={"token_risks": 9})["gate"] is None
    assert all(c.directive is None or not c.directive.token_risks for c in rig.script.calls)


def test_a_report_that_nobody_asks_for_costs_no_risks(tmp_path: Path) -> None:
    rig = gated_rig(tmp_path)
    rig.ask("gated")
    (call,) = rig.script.of("answer")
    assert call.directive is not None
    assert call.directive.token_risks == 0


@pytest.mark.parametrize("value", [0, -1, 1.0, "9", True, [], MAX_TOKEN_RISKS + 1])
def test_another_value_is_refused(value: Any) -> None:
    with pytest.raises(ApiError, match="integer from 1 to 4096") as caught:
        parse_ask({"report": True, "token_risks": value})
    assert (caught.value.status, caught.value.param) == (400, "steering.token_risks")


def test_it_is_a_part_of_the_report() -> None:
    with pytest.raises(ApiError, match="set report to true"):
        parse_ask({"token_risks": 5})
    assert parse_ask({"token_risks": None}).token_risks == 0


def test_the_operators_limit_holds(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="from 1 to 1024"):
        along(gated_rig(tmp_path), 1025)
