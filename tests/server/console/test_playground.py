"""One message under two policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.fixtures.console_rig import (
    COEFFICIENTS,
    PLAIN,
    REFUSAL,
    ConsoleRig,
    Operator,
)
from tests.server.fixtures.gated import SCORES, gated_console
from tests.server.fixtures.media import (
    data_url,
    mp4,
    png,
    wav,
)
from tests.server.fixtures.ops import code


def test_one_message_is_answered_steered_and_plain(operator: Operator) -> None:
    found = operator.play().json()
    steered, plain = found["steered"], found["plain"]
    assert (steered["text"], steered["refused"]) == (REFUSAL, True)
    assert (plain["text"], plain["refused"]) == (PLAIN, False)
    assert (plain["mode"], plain["tokens"], plain["rows_verified"]) == ("off", [], 0)
    assert "".join(token["text"] for token in steered["tokens"]) in REFUSAL
    assert steered["coefficient"] == pytest.approx(9.0)
    entries = operator.get("recent")["requests"]
    assert {entry["key"] for entry in entries} == {"@console"}
    assert len({entry["request_id"] for entry in entries}) == 2


@pytest.mark.parametrize("strength", [1.0, 1.75])
def test_bars_are_the_largest_coefficients_times_the_strength(
    operator: Operator, strength: float
) -> None:
    tokens = operator.play(strength=strength).json()["steered"]["tokens"]
    assert len(tokens) == 10
    for place, token in enumerate(tokens):
        assert token["coefficient"] == pytest.approx(COEFFICIENTS[place] * strength)
        assert token["steered"]


def test_tokens_behind_the_window_and_in_shadow_are_not_called_steered(tmp_path: Path) -> None:
    bundle = {"bundle": "static"}
    rules: dict[str, dict[str, Any]] = {
        "brief": {"mode": "enforce", "window": {"decode_tokens": 2}, **bundle},
        "seen": {"mode": "shadow", **bundle},
    }
    operator = Operator(ConsoleRig(tmp_path, rules))
    brief = operator.play(policy="brief").json()["steered"]["tokens"]
    assert [token["steered"] for token in brief] == [True] * 3 + [False] * 7
    seen = operator.play(policy="seen").json()["steered"]
    assert not any(token["steered"] for token in seen["tokens"])
    assert seen["rows_verified"] == 0
    assert seen["text"] == PLAIN


def test_media_reach_the_model_as_data_urls(rig: ConsoleRig, operator: Operator) -> None:
    media = [
        {"kind": "image", "url": data_url(png(), "image/png")},
        {"kind": "audio", "url": data_url(wav(), "audio/wav")},
        {"kind": "video", "url": data_url(mp4(), "video/mp4")},
    ]
    found = operator.play(media=media)
    assert found.status_code == 200
    assert found.json()["steered"]["modality"] == found.json()["plain"]["modality"] == "mixed"
    broken = [{"kind": "image", "url": "data:image/png;base64,AAAA"}]
    found = operator.play(media=broken).json()
    assert found["steered"]["code"] == found["plain"]["code"] == "invalid_media"


@pytest.mark.parametrize(
    "fields",
    [
        {"text": " "},
        {"text": 1},
        {"policy": "none"},
        {"policy": "off"},
        {"policy": None},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": 10**6},
        {"media": {}},
        {"media": [1]},
        {"media": [{"kind": "image", "url": "http://127.0.0.1/secret"}]},
        {"media": [{"kind": "text", "url": "data:,x"}]},
        {"more": 1},
    ],
)
def test_a_trial_that_is_none_is_refused(rig: ConsoleRig, operator: Operator, fields: Any) -> None:
    assert operator.play(**fields).status_code == 400
    assert rig.talker.calls == []
    assert rig.recent.newest(9) == []


@pytest.mark.parametrize("strength", ["1", -1, 99, True, [1]])
def test_a_strength_out_of_bounds_fails_the_steered_side_alone(
    operator: Operator, strength: Any
) -> None:
    found = operator.play(strength=strength).json()
    assert found["steered"]["code"] == "invalid_steering"
    assert found["plain"]["text"] == PLAIN


def test_an_engine_that_fails_for_one_side_spares_the_other(
    rig: ConsoleRig, operator: Operator
) -> None:
    rig.talker.says["steered"] = RuntimeError("secret of the engine")
    answer = operator.play()
    assert answer.json()["steered"]["code"] == "internal_error"
    assert answer.json()["plain"]["text"] == PLAIN
    assert "secret" not in answer.text
    assert rig.health.in_flight == 0


def test_without_a_policy_of_mode_off_there_is_one_answer(tmp_path: Path) -> None:
    found = Operator(ConsoleRig(tmp_path, off=False)).play().json()
    assert found["plain"] is None
    assert found["steered"]["text"] == REFUSAL


def test_policies_that_no_caller_may_name_can_be_tried(tmp_path: Path) -> None:
    rules = {"weak": {"mode": "enforce", "bundle": "static", "floor": 0.0, "selectable": False}}
    assert (
        "error" not in Operator(ConsoleRig(tmp_path, rules)).play(policy="weak").json()["steered"]
    )


def test_a_server_that_drains_plays_no_more(rig: ConsoleRig, operator: Operator) -> None:
    rig.health.draining = True
    assert code(operator.play()) == (503, "shutting_down")
    assert operator.get("live")["not_ready"] == "shutting_down"


@pytest.mark.parametrize("switch", ["everyone", "nobody"])
def test_the_operator_is_shown_the_risk_along_the_prompt(tmp_path: Path, switch: str) -> None:
    found = Operator(gated_console(tmp_path, report_to=switch)).play(policy="gated").json()
    gate = found["steered"]["gate"]
    assert (gate["position"], gate["modality"]) == (6, "image")
    assert len(gate["token_risks"]["risks"]) == len(SCORES)
    assert found["plain"]["gate"] is None


def test_a_bundle_without_a_gate_has_nothing_to_show(operator: Operator) -> None:
    assert operator.play().json()["steered"]["gate"] is None
