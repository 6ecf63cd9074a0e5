"""What an operator is told of a policy file that may refuse less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from refusal_server.policy.policy_diff import PolicyDiff
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.policy.policy_set import PolicySet
from tests.server.fixtures.bundles import write_bundle

MAIN = {"mode": "enforce", "bundle": "a", "strength": 1.5}
FIRST: dict[str, Any] = {
    "default": "main",
    "tenants": {"acme": "strict"},
    "policies": {
        "main": MAIN,
        "strict": {"mode": "enforce", "bundle": "a", "strength": 2.0},
        "off": {"mode": "off"},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "a", hidden=8)
    write_bundle(tmp_path / "b", hidden=8, seed=1)
    return tmp_path


def load(folder: Path, content: dict[str, Any]) -> PolicySet:
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_policy_set(path)


def told(folder: Path, main: dict[str, Any] | None = None, **change: Any) -> list[str]:
    after = {**FIRST, **change}
    if main is not None:
        after = {**after, "policies": {**after["policies"], "main": main}}
    found = load(folder, after)
    return PolicyDiff(load(folder, FIRST), "", found).weakens


def test_what_is_as_strong_or_stronger_is_not_told(folder: Path) -> None:
    assert told(folder) == []
    assert told(folder, MAIN | {"strength": 2.0}) == []
    assert told(folder, MAIN | {"description": "another"}) == []
    assert told(folder, default="strict") == []


@pytest.mark.parametrize(
    ("main", "reason"),
    [
        ({"mode": "shadow", "bundle": "a"}, "main: nothing is steered in mode shadow."),
        (MAIN | {"strength": 1.0}, "main: its strength is 1, before 1.5."),
        (MAIN | {"floor": 0.2}, "main: its strength may be 0.2, below "),
        (MAIN | {"window": {"decode_tokens": 0}}, "main: its window steers other tokens."),
        (MAIN | {"dose_limit": 0.01}, "main: its dose limit for text is smaller."),
        (MAIN | {"bundle": "b"}, "main: bundle "),
        (MAIN | {"selectable": True}, "main: every caller may name it now."),
    ],
)
def test_each_way_of_being_weaker_is_one_sentence(
    folder: Path, main: dict[str, Any], reason: str
) -> None:
    (sentence,) = told(folder, main)
    assert sentence.startswith(reason)


def test_another_default_is_told_for_whom_it_holds(folder: Path) -> None:
    assert told(folder, default="off") == [
        "Requests that name no policy get off in place of main: nothing is steered in mode off."
    ]
    (sentence,) = told(folder, tenants={})
    assert sentence.startswith("Requests of tenant acme get main in place of strict: ")


def test_a_larger_share_of_a_weaker_policy_is_told(folder: Path) -> None:
    split = {"policy": "off", "share": 0.25, "weaker": True, "by": "key"}
    assert told(folder, MAIN | {"split": split}) == [
        "main: 25% of its requests go to off: nothing is steered in mode off."
    ]
