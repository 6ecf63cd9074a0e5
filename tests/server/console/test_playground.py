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
    Talker,
    outcome,
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
    found = operator.played()
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
    tokens = operator.played(strength=strength)["steered"]["tokens"]
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
    brief = operator.played(policy="brief")["steered"]["tokens"]
    assert [token["steered"] for token in brief] == [True] * 3 + [False] * 7
    seen = operator.played(policy="seen")["steered"]
    assert not any(token["steered"] for token in seen["tokens"])
    assert seen["rows_verified"] == 0
    assert seen["text"] == PLAIN


def test_media_reach_the_model_as_data_urls(rig: ConsoleRig, operator: Operator) -> None:
    media = [
        {"kind": "image", "url": data_url(png(), "image/png")},
        {"kind": "audio", "url": data_url(wav(), "audio/wav")},
        {"kind": "video", "url": data_url(mp4(), "video/mp4")},
    ]
    found = operator.played(media=media)
    assert found["steered"]["modality"] == found["plain"]["modality"] == "mixed"
    broken = [{"kind": "image", "url": "data:image/png;base64,AAAA"}]
    found = operator.played(media=broken)
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
        {"turns": {}},
        {"turns": [1]},
        {"turns": [{"text": ""}]},
        {"turns": [{"text": "a", "steered": 1}]},
        {"turns": [{"text": "a", "media": [{"kind": "image", "url": "file:///etc/passwd"}]}]},
        {"turns": [{"text": "a"}] * 21},
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
    found = operator.played(strength=strength)
    assert found["steered"]["code"] == "invalid_steering"
    assert found["plain"]["text"] == PLAIN


def test_an_engine_that_fails_for_one_side_spares_the_other(
    rig: ConsoleRig, operator: Operator
) -> None:
    rig.talker.says["steered"] = RuntimeError("secret of the engine")
    answer = operator.play()
    found = outcome(answer.text)
    assert found["steered"]["code"] == "internal_error"
    assert found["plain"]["text"] == PLAIN
    assert "secret" not in answer.text
    assert rig.health.in_flight == 0


def test_without_a_policy_of_mode_off_there_is_one_answer(tmp_path: Path) -> None:
    found = Operator(ConsoleRig(tmp_path, off=False)).played()
    assert found["plain"] is None
    assert found["steered"]["text"] == REFUSAL


def test_policies_that_no_caller_may_name_can_be_tried(tmp_path: Path) -> None:
    rules = {"weak": {"mode": "enforce", "bundle": "static", "floor": 0.0, "selectable": False}}
    found = Operator(ConsoleRig(tmp_path, rules)).played(policy="weak")
    assert "error" not in found["steered"]


def test_a_server_that_drains_plays_no_more(rig: ConsoleRig, operator: Operator) -> None:
    rig.health.draining = True
    assert code(operator.play()) == (503, "shutting_down")
    assert operator.get("live")["not_ready"] == "shutting_down"


@pytest.mark.parametrize("switch", ["everyone", "nobody"])
def test_the_operator_is_shown_the_risk_along_the_prompt(tmp_path: Path, switch: str) -> None:
    found = Operator(gated_console(tmp_path, report_to=switch)).played(policy="gated")
    gate = found["steered"]["gate"]
    assert (gate["position"], gate["modality"]) == (6, "image")
    assert len(gate["token_risks"]["risks"]) == len(SCORES)
    assert found["plain"]["gate"] is None


def test_a_bundle_without_a_gate_has_nothing_to_show(operator: Operator) -> None:
    assert operator.played()["steered"]["gate"] is None


def test_answers_come_a_piece_at_a_time(operator: Operator) -> None:
    answer = operator.play()
    assert answer.headers["content-type"] == "application/x-ndjson"
    found = outcome(answer.text)
    for side, text in (("steered", REFUSAL), ("plain", PLAIN)):
        assert len(found["pieces"][side]) > 5
        assert "".join(found["pieces"][side]) == text == found[side]["text"]
    assert found["version"] == operator.rig.store.current.version


def test_a_conversation_goes_on_with_each_sides_own_answers(
    rig: ConsoleRig, operator: Operator
) -> None:
    picture = {"kind": "image", "url": data_url(png(), "image/png")}
    turns = [
        {"text": "First?", "media": [picture], "steered": "No.", "plain": "Yes."},
        {"text": "Second?", "steered": None, "plain": "Sure."},
    ]
    found = operator.played(turns=turns, text="Third?")
    assert found["steered"]["modality"] == found["plain"]["modality"] == "image"
    assert isinstance(rig.talker, Talker)
    said = dict(rig.talker.heard)
    roles = {side: [message["role"] for message in messages] for side, messages in said.items()}
    assert roles[True] == ["user", "assistant", "user"]
    assert roles[False] == ["user", "assistant", "user", "assistant", "user"]
    assert said[True][1]["content"] == "No."
    assert [said[False][place]["content"] for place in (1, 3)] == ["Yes.", "Sure."]


def test_a_lease_ends_with_the_answer(rig: ConsoleRig, operator: Operator) -> None:
    operator.played()
    assert rig.health.in_flight == 0
