"""A caller never reaches a policy that was not measured to be as strong as its default."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from refusal_server.caller import Caller, Origin
from refusal_server.chat.steering_field import choose, parse_ask
from refusal_server.errors import ApiError
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.policy.policy_order import shortfall
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.bundle import load_bundle
from refusal_steering.calibration.recentring import recentre_bundle
from tests.server.fixtures.bundles import small_gate, write_bundle

MODES = ("enforce", "shadow", "off")
HERE: dict[str, Any] = {"mode": "enforce", "bundle": "a"}
THERE: dict[str, Any] = {"mode": "enforce", "bundle": "b"}
TINY = {"id": "tiny-omni", "hidden_size": 8, "num_layers": 4}


def share(refused: int, strength: float = 1.0, **changes: Any) -> dict[str, Any]:
    return {
        "strength": strength,
        "refused": refused,
        "requests": 80,
        "requests_sha256": "a" * 64,
        "detector": "lexical",
        "answer_tokens": 12,
    } | changes


def policies(
    folder: Path,
    named: dict[str, Any],
    default: dict[str, Any] | None = None,
    a: dict[str, Any] | None = None,
    b: dict[str, Any] | None = None,
) -> PolicySet:
    """``default`` and ``named``, over bundles ``a`` and ``b`` with these fields of manifests."""
    write_bundle(folder / "a", hidden=8, **(a or {}))
    write_bundle(folder / "b", hidden=8, **({"seed": 1} | (b or {})))
    path = folder / "policy.yaml"
    rules = {"default": default or HERE, "named": named}
    path.write_text(yaml.safe_dump({"default": "default", "policies": rules}))
    return load_policy_set(path)


def reaches(found: PolicySet, caller: Caller | None = None) -> bool:
    """Whether the caller gets the policy that it names; a refusal must say what to do."""
    by_rule = found.allows(found.policies["named"], caller or Caller("k"))
    try:
        choose(parse_ask({"policy": "named"}), found, Origin(caller or Caller("k")))
    except ApiError as error:
        assert (error.status, error.code) == (403, "policy_not_allowed")
        assert "selectable" in error.message
        assert "`policies` of the API key" in error.message
        assert not by_rule
        return False
    assert by_rule
    return True


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({}, True),
        ({"strength": 1.5}, True),
        ({"ceiling": 4.0}, True),
        ({"floor": 0.9}, False),
        ({"strength": 0.5}, False),
        ({"window": {"decode_tokens": 3, "hold": True}}, True),
        ({"window": {"decode_tokens": 9, "hold": True}}, True),
        ({"window": {"decode_tokens": None, "hold": True}}, True),
        ({"window": {"decode_tokens": 2, "hold": True}}, False),
        ({"window": {"decode_tokens": 0, "hold": True}}, False),
        ({"window": {"decode_tokens": 9, "hold": False}}, False),
        ({"dose_limit": 0.5}, True),
        ({"dose_limit": 0.1}, False),
        ({"caps": {"video": 0.1}}, False),
    ],
)
def test_with_one_bundle_nothing_may_be_less(
    tmp_path: Path, changes: dict[str, Any], allowed: bool
) -> None:
    window = {"decode_tokens": 3, "hold": True}
    default = HERE | {"dose_limit": 0.4, "window": window}
    assert reaches(policies(tmp_path, default | changes, default)) is allowed


@pytest.mark.parametrize("hold", [True, False])
def test_hold_means_nothing_where_no_answer_token_is_steered(tmp_path: Path, hold: bool) -> None:
    default = HERE | {"window": {"decode_tokens": 0, "hold": not hold}}
    named = HERE | {"window": {"decode_tokens": 4, "hold": hold}}
    assert reaches(policies(tmp_path, named, default))


@pytest.mark.parametrize(
    ("named", "default", "allowed"),
    [
        ([share(70)], [share(60)], True),
        ([share(60)], [share(60)], True),
        ([share(59)], [share(60)], False),
        ([], [share(60)], False),
        ([share(80)], [], False),
        ([], [], False),
        ([share(80, 1.5)], [share(60)], False),
        ([share(80)], [share(60, 0.5)], False),
        ([share(80, requests_sha256="b" * 64)], [share(60)], False),
        ([share(80, detector="minilm")], [share(60)], False),
        ([share(80, answer_tokens=24)], [share(60)], False),
        ([share(80, requests=800)], [share(60)], False),
    ],
)
def test_with_two_bundles_the_measured_shares_decide(
    tmp_path: Path, named: list[Any], default: list[Any], allowed: bool
) -> None:
    found = policies(tmp_path, THERE, a={"measured": default}, b={"measured": named})
    assert reaches(found) is allowed


@pytest.mark.parametrize(
    ("named", "default", "same", "allowed"),
    [
        ({}, {}, True, True),
        ({"image": 0.2}, {"image": 0.2}, True, True),
        ({"image": 0.1}, {"image": 0.2}, True, True),
        ({"image": 0.3}, {"image": 0.2}, True, False),
        ({}, {"image": 0.2}, True, False),
        ({"image+audio": 0.6}, {}, True, False),
        ({"image": 0.9}, {"image": 1.2}, True, True),
        ({"image": 0.4}, {}, False, True),
        ({"image": 0.6}, {}, False, False),
        ({"image": 0.6, "text": 0.7, "audio": 0.6, "video": 0.7}, {}, False, True),
    ],
)
def test_a_gate_that_opens_later_for_media_may_be_weaker_than_a_trial_in_text_says(
    tmp_path: Path,
    named: dict[str, float],
    default: dict[str, float],
    same: bool,
    allowed: bool,
) -> None:
    measured = {"measured": [share(60)], "strategy": "promptgate"}
    theirs = small_gate(8, media_thresholds=default)
    mine = small_gate(8, "max" if same else "attention", media_thresholds=named)
    a, b = {**measured, "gate": theirs}, {**measured, "gate": mine}
    assert reaches(policies(tmp_path, THERE, a=a, b=b)) is allowed


@pytest.mark.parametrize(
    ("named", "default", "allowed"),
    [
        ({"strength": 1.5}, {}, True),
        ({"strength": 1.5, "floor": 0.5}, {}, False),
        ({}, {"strength": 1.5, "floor": 1.0}, True),
        ({}, {"strength": 1.5}, False),
        ({"strength": 1.2}, {}, False),
        ({"window": {"decode_tokens": 1}}, {}, False),
        ({"dose_limit": 0.1}, {}, False),
        ({"caps": {"image": 0.1}}, {}, False),
        ({}, {"window": {"decode_tokens": 1}}, False),
    ],
)
def test_a_figure_counts_only_for_the_terms_it_was_measured_under(
    tmp_path: Path, named: dict[str, Any], default: dict[str, Any], allowed: bool
) -> None:
    measured = [share(20, 0.5), share(60), share(70, 1.5)]
    both = {"measured": measured}
    found = policies(tmp_path, THERE | named, HERE | default, a=both, b=both)
    assert reaches(found) is allowed


@pytest.mark.parametrize("field", ["id", "revision", "num_layers"])
def test_bundles_of_other_models_are_never_compared(tmp_path: Path, field: str) -> None:
    other = TINY | {field: 6 if field == "num_layers" else "another"}
    measured = {"measured": [share(80)]}
    found = policies(tmp_path, THERE, a=measured, b=measured | {"model": other})
    assert not reaches(found)
    same = policies(tmp_path, THERE, a=measured, b=measured | {"model": TINY})
    assert reaches(same)


@pytest.mark.parametrize(
    ("named", "default"),
    [pair for pair in itertools.product(MODES, MODES) if pair != ("enforce", "enforce")],
)
def test_only_policies_that_enforce_are_compared(tmp_path: Path, named: str, default: str) -> None:
    def rule(mode: str, bundle: str) -> dict[str, Any]:
        return {"mode": mode} if mode == "off" else {"mode": mode, "bundle": bundle}

    found = policies(tmp_path, rule(named, "a"), rule(default, "a"))
    assert not reaches(found)
    assert shortfall(found.policies["default"], found.policies["named"]) is not None


@pytest.mark.parametrize("strategy", ["static", "omnisteer", "ras", "cascade"])
@pytest.mark.parametrize("strength", [1.0, 4.0, 16.0])
def test_a_larger_number_of_another_strategy_opens_nothing(
    tmp_path: Path, strategy: str, strength: float
) -> None:
    named = THERE | {"strength": strength, "ceiling": 16.0}
    closed = policies(tmp_path, named, b={"strategy": strategy})
    assert not reaches(closed)
    assert not reaches(closed, Caller("k", policies=frozenset()))
    assert reaches(closed, Caller("k", policies=frozenset({"named"})))
    assert reaches(closed, Caller("k", policy="named", policies=frozenset()))
    opened = policies(tmp_path, named | {"selectable": True}, b={"strategy": strategy})
    assert reaches(opened)


@pytest.mark.parametrize(
    ("named", "default", "allowed"),
    [
        ((), (), True),
        (("image",), (), True),
        (("image", "audio"), ("image",), True),
        ((), ("image",), False),
        (("audio",), ("image",), False),
    ],
)
def test_a_bundle_that_is_recentred_for_fewer_media_may_be_weaker_on_them(
    tmp_path: Path, named: tuple[str, ...], default: tuple[str, ...], allowed: bool
) -> None:
    measured = {"measured": [share(60)]}
    policies(tmp_path, THERE, a=measured, b=measured)
    for folder, media in (("a", default), ("b", named)):
        offsets = {layer: {medium: torch.ones(8) for medium in media} for layer in range(4)}
        if media:
            recentre_bundle(tmp_path / folder, load_bundle(tmp_path / folder), offsets)
    assert reaches(load_policy_set(tmp_path / "policy.yaml")) is allowed
