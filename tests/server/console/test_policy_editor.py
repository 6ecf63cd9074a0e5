"""The console checks, applies and rolls back policies."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from refusal_server.console import draft
from refusal_steering.errors import BundleError
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.console_rig import ConsoleRig, Operator
from tests.server.fixtures.ops import code

HOSTILE = "</script><img src=x onerror=alert(1)>"


def text_with(rig: ConsoleRig, **change: Any) -> str:
    content = yaml.safe_load(rig.path.read_text())
    content["policies"]["static"].update(change)
    return yaml.safe_dump(content)


def test_a_check_lists_every_problem_by_line_and_changes_nothing(
    rig: ConsoleRig, operator: Operator
) -> None:
    before, version = rig.path.read_bytes(), rig.store.current.version
    text = (
        "default: main\npolicies:\n  main:\n    mode: off\n    strenght: 1\n"
        "  other:\n    mode: loud\n"
    )
    found = operator.send("POST", "data/policy/check", {"text": text}).json()
    assert [problem["line"] for problem in found["problems"]] == [5, 7]
    assert "Did you mean 'strength'?" in found["problems"][0]["message"]
    assert found["version"] is None
    assert any(line["kind"] == "added" for line in found["diff"])
    assert (rig.path.read_bytes(), rig.store.current.version) == (before, version)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("default: a\npolicies: {a: {mode: off}\n", 3),
        ("default: a\ndefault: b\n", 2),
        ("default: b\npolicies: {a: {mode: off}}\n", None),
        ("default: a\npolicies:\n  a:\n    mode: enforce\n    bundle: nowhere\n", 5),
        ("- a", None),
        ("", None),
        ("\x00", None),
        (
            "default: a\npolicies:\n  a: {mode: off, selectable: true}\n"
            "  b:\n    mode: enforce\n    bundle: static\n    split: {policy: c, share: 1}\n"
            "  c: {mode: off}\n",
            7,
        ),
    ],
)
def test_a_problem_names_its_line_if_it_has_one(
    operator: Operator, text: str, line: int | None
) -> None:
    answer = operator.send("POST", "data/policy/check", {"text": text})
    (problem,) = answer.json()["problems"]
    assert problem["line"] == line
    assert problem["message"]
    assert str(operator.rig.path.parent) not in answer.text


def test_a_sound_text_says_what_it_would_change(rig: ConsoleRig, operator: Operator) -> None:
    text = text_with(rig, strength=1.5)
    found = operator.send("POST", "data/policy/check", {"text": text}).json()
    assert found["problems"] == []
    assert found["replaces"] == rig.store.current.version != found["version"]
    assert {"kind": "added", "text": "+    strength: 1.5"} in found["diff"]
    write_bundle(rig.path.parent / "static", strategy="static", hidden=8, seed=9)
    found = operator.send("POST", "data/policy/check", {"text": text}).json()
    assert len(found["bundles_added"]) == len(found["bundles_removed"]) == 1


def test_apply_then_roll_back(rig: ConsoleRig, operator: Operator) -> None:
    first, before = rig.store.current.version, rig.path.read_text()
    text = "# mine\n" + text_with(rig, strength=1.5)
    applied = operator.send("PUT", "data/policy", {"text": text}, first)
    assert applied.status_code == 200
    assert applied.json()["version"] == rig.store.current.version != first
    assert rig.path.read_text() == text == applied.json()["source"]
    assert applied.json()["history"] == [first]
    assert rig.events.seen[-1].request_id == applied.headers["x-request-id"]
    assert rig.events.seen[-1].source == "console"
    stale = operator.send("POST", "data/policy/rollback", version=first)
    assert code(stale) == (412, "precondition_failed")
    now = rig.store.current.version
    back = operator.send("POST", "data/policy/rollback", version=now)
    assert back.json()["version"] == rig.store.current.version == first
    assert rig.path.read_text() == before
    noted = [(call.method, call.path, call.status, call.code) for call in rig.events.calls[-3:]]
    path = "/console/data/policy/rollback"
    assert noted == [
        ("PUT", "/console/data/policy", 200, None),
        ("POST", path, 412, "precondition_failed"),
        ("POST", path, 200, None),
    ]


def test_what_is_stale_nameless_wrong_or_not_acknowledged_is_not_applied(
    rig: ConsoleRig, operator: Operator
) -> None:
    before, version = rig.path.read_bytes(), rig.store.current.version
    text = text_with(rig, strength=1.5)
    expected = {
        (None, text): (428, "precondition_required"),
        ("000000000000", text): (412, "precondition_failed"),
        (version, "{"): (400, "invalid_policy"),
        (version, "x" * (draft.MAX_TEXT + 1)): (413, "request_too_large"),
    }
    for (match, sent), answer in expected.items():
        assert code(operator.send("PUT", "data/policy", {"text": sent}, match)) == answer
    assert code(operator.send("PUT", "data/policy", {"text": 1}, version))[0] == 400
    assert code(operator.send("POST", "data/policy/rollback")) == (428, "precondition_required")
    rig.ranks.fail["acknowledge"] = BundleError("rank 1 is gone")
    refused = operator.send("PUT", "data/policy", {"text": text}, version)
    assert code(refused) == (409, "policy_not_installed")
    assert (rig.path.read_bytes(), rig.store.current.version) == (before, version)


def test_hostile_policy_texts_come_back_as_text(rig: ConsoleRig, operator: Operator) -> None:
    text = f"# {HOSTILE}\n" + text_with(rig, description=HOSTILE)
    version = rig.store.current.version
    assert operator.send("PUT", "data/policy", {"text": text}, version).status_code == 200
    answer = operator.client.get("/console/data/policy")
    assert answer.headers["content-type"] == "application/json"
    assert HOSTILE in answer.json()["source"]
    assert HOSTILE not in operator.client.get("/console").text
