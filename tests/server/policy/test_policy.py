from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from refusal_server.chat.steering_field import choose, parse_ask
from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.policy.policy_set import PolicySet
from refusal_steering.bundle import SteeringBundle
from tests.server.fixtures.bundles import write_bundle

RULES: dict[str, Any] = {
    "main": {"mode": "enforce", "bundle": "b", "strength": 1.0, "floor": 0.5, "ceiling": 2.0},
    "strict": {"mode": "enforce", "bundle": "b", "strength": 1.5},
    "lax": {"mode": "enforce", "bundle": "b", "floor": 0.0},
    "shadow": {"mode": "shadow", "bundle": "b"},
    "off": {"mode": "off", "selectable": True},
}


def write(folder: Path, **changes: Any) -> Path:
    if not (folder / "b").exists():
        write_bundle(folder / "b", hidden=8)
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump({"default": "main", "policies": RULES} | changes))
    return path


@pytest.fixture
def policies(tmp_path: Path) -> PolicySet:
    return load_policy_set(write(tmp_path))


def refused(value: Any, policies: PolicySet) -> ApiError:
    with pytest.raises(ApiError) as caught:
        choose(parse_ask(value), policies)
    return caught.value


def test_nothing_asked_is_the_default_at_its_strength(policies: PolicySet) -> None:
    values: list[Any] = [None, {}]
    for value in values:
        choice = choose(parse_ask(value), policies)
        directive = choice.directive
        assert (choice.policy.name, choice.strength, choice.report) == ("main", 1.0, False)
        assert directive is not None
        assert directive.policy_version == policies.version
        assert not directive.shadow


def test_off_has_no_directive_and_no_strength(policies: PolicySet) -> None:
    choice = choose(parse_ask({"policy": "off"}), policies)
    assert choice.directive is None
    assert refused({"policy": "off", "strength": 1}, policies).param == "steering.strength"


def test_shadow_measures_and_adds_nothing(tmp_path: Path) -> None:
    rules = RULES | {"shadow": RULES["shadow"] | {"selectable": True}}
    choice = choose(
        parse_ask({"policy": "shadow"}), load_policy_set(write(tmp_path, policies=rules))
    )
    assert choice.directive is not None
    assert choice.directive.applied_strength == 0


@pytest.mark.parametrize("strength", [0.5, 1, 2.0])
def test_strength_within_bounds_is_taken_as_it_is(policies: PolicySet, strength: float) -> None:
    assert choose(parse_ask({"strength": strength}), policies).strength == strength


@pytest.mark.parametrize("strength", [0, 0.49, 2.01, 1e308])
def test_strength_outside_names_the_bounds_and_is_never_clamped(
    policies: PolicySet, strength: float
) -> None:
    error = refused({"strength": strength}, policies)
    assert (error.status, error.code) == (400, "invalid_steering")
    assert "0.5 to 2" in error.message


@pytest.mark.parametrize(
    "value",
    [
        "strong",
        True,
        -1,
        float("nan"),
        float("inf"),
        10**400,
        [1],
        {"a": 1},
    ],
)
def test_strength_must_be_a_finite_number(policies: PolicySet, value: Any) -> None:
    error = refused({"strength": value}, policies)
    assert (error.status, error.code, error.param) == (400, "invalid_steering", "steering.strength")


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("on", "steering"),
        ([], "steering"),
        ({"polcy": "main"}, "steering"),
        ({"policy": 3}, "steering.policy"),
        ({"policy": "nope"}, "steering.policy"),
        ({"report": 1}, "steering.report"),
        ({"report": "yes"}, "steering.report"),
        ({"vector": [1.0]}, "steering"),
    ],
)
def test_other_shapes_are_refused_by_name(policies: PolicySet, value: Any, param: str) -> None:
    error = refused(value, policies)
    assert (error.status, error.code, error.param) == (400, "invalid_steering", param)


def test_a_caller_may_be_stricter_than_the_default_but_not_weaker(policies: PolicySet) -> None:
    assert choose(parse_ask({"policy": "strict"}), policies).strength == 1.5
    assert choose(parse_ask({"policy": "off"}), policies).policy.name == "off"  # selectable
    for weaker in ("lax", "shadow"):
        error = refused({"policy": weaker}, policies)
        assert (error.status, error.code) == (403, "policy_not_allowed")


def test_without_a_floor_nobody_goes_below_the_strength(policies: PolicySet) -> None:
    assert refused({"policy": "strict", "strength": 1.4}, policies).status == 400


def test_the_version_names_the_content(tmp_path: Path) -> None:
    first = load_policy_set(write(tmp_path)).version
    assert load_policy_set(write(tmp_path)).version == first
    assert load_policy_set(write(tmp_path, default="strict")).version != first
    write_bundle(tmp_path / "b", hidden=8, seed=5)
    assert load_policy_set(write(tmp_path)).version != first


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"default": "nope"}, "is not one of"),
        ({"policies": {}}, "policies"),
        ({"polices": {}}, "Did you mean 'policies'"),
        ({"policies": {"main": {"mode": "enforce"}}}, "needs a bundle"),
        ({"policies": {"main": {"mode": "off", "bundle": "b"}}}, "needs no bundle"),
        ({"policies": {"main": RULES["main"] | {"strength": 3.0}}}, "must lie between"),
        ({"policies": {"main": RULES["main"] | {"ceiling": 17.0}}}, "ceiling"),
        ({"policies": {"main": RULES["main"] | {"ceiling": ".nan"}}}, "ceiling"),
        ({"policies": {"main": RULES["main"] | {"strenght": 1.0}}}, "Did you mean 'strength'"),
        ({"policies": {"Main;x=1": RULES["main"]}}, "pattern"),
        (
            {"policies": {"main": RULES["main"] | {"window": {"decode_tokens": -1}}}},
            "decode_tokens",
        ),
        ({"policies": {"main": RULES["main"] | {"dose_limt": 1.0}}}, "Did you mean 'dose_limit'"),
        ({"policies": {"main": RULES["main"] | {"dose_limit": 0.0}}}, "dose_limit"),
        ({"policies": {"main": RULES["main"] | {"dose_limit": ".inf"}}}, "dose_limit"),
        ({"policies": {"main": RULES["main"] | {"caps": {"images": 0.1}}}}, "caps"),
        ({"policies": {"main": RULES["main"] | {"caps": {"image": -0.1}}}}, "caps"),
        ({"policies": {"main": {"mode": "off", "dose_limit": 0.1}}}, "steers nothing"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(FileError) as caught:
        load_policy_set(write(tmp_path, **changes))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[1]", "default: [", "a: 1\na: 2", "default: main\npolicies: 3", "\x00"]
)
def test_half_written_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(FileError):
        load_policy_set(path)


def test_a_missing_damaged_or_pickled_bundle_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    (weights,) = (tmp_path / "b").glob("weights-*")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    with pytest.raises(FileError, match=r"policies\.lax\.bundle: .*sha256"):
        load_policy_set(path)
    for name in ("missing", "vector.pt"):
        rules = {"main": {"mode": "enforce", "bundle": name}}
        with pytest.raises(FileError, match=r"line 4: policies\.main\.bundle: "):
            load_policy_set(write(tmp_path, policies=rules))


def test_a_bundle_without_a_canary_and_one_that_does_not_fit_are_refused_once(
    tmp_path: Path,
) -> None:
    def fits(bundle: SteeringBundle) -> None:
        bundle.check_model(16, 4)

    write_bundle(tmp_path / "c", hidden=16, canary=None)
    rules = RULES | {"bare": {"mode": "enforce", "bundle": "c"}}
    with pytest.raises(FileError) as caught:
        load_policy_set(write(tmp_path, policies=rules), fits)
    told = [problem.message for problem in caught.value.problems]
    assert len(told) == 2
    assert "policies.lax.bundle: " in told[1] or "policies.main.bundle: " in told[1]
    assert "no canary" in told[0]


def test_off_needs_no_quotes_and_true_is_still_true(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    rule = "{mode: off, selectable: true, description: trueish}"
    path.write_text(f"default: off\npolicies:\n  off: {rule}\n")
    policies = load_policy_set(path)
    assert policies.default == "off"
    assert policies.policies["off"].rule.description == "trueish"
    assert policies.policies["off"].rule.selectable


def test_the_demo_policy_is_sound() -> None:
    demo = Path(__file__).resolve().parents[3] / "deploy" / "demo"
    policies = load_policy_set(demo / "policy.yaml")
    assert policies.policies[policies.default].rule.mode == "enforce"
    assert all(policies.allows(policy) for policy in policies.policies.values())


CAPS = {"image": 0.1, "audio": 0.3, "video": 0.2}


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("limit", [None, 0.15, 0.5])
@pytest.mark.parametrize("bundle_limit", [None, 0.12, 0.7])
def test_the_smallest_limit_of_bundle_policy_and_media_holds(
    tmp_path: Path, count: int, limit: float | None, bundle_limit: float | None
) -> None:
    write_bundle(tmp_path / "c", hidden=8, dose_limit=bundle_limit)
    rule = {"mode": "enforce", "bundle": "c", "dose_limit": limit, "caps": CAPS}
    policies = load_policy_set(write(tmp_path, policies={"main": rule}))
    choice = choose(parse_ask(None), policies)
    for media in itertools.combinations(CAPS, count):
        limits = [bundle_limit, limit, *(CAPS[medium] for medium in media)]
        expected = min((value for value in limits if value is not None), default=None)
        directive = choice.bringing(media[::-1]).directive
        assert directive is not None
        assert directive.media == media
        assert directive.dose_limit == expected


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"dose_limit": 0.5}, True),
        ({"dose_limit": 0.6}, True),
        ({}, True),
        ({"dose_limit": 0.4}, False),
        ({"caps": {"image": 0.2}}, True),
        ({"caps": {"image": 0.3, "audio": 0.5}}, True),
        ({"caps": {"image": 0.1}}, False),
        ({"caps": {"video": 0.4}}, False),
    ],
)
def test_a_smaller_limit_is_a_weaker_policy(
    tmp_path: Path, changes: dict[str, Any], allowed: bool
) -> None:
    rules = {
        "main": RULES["main"] | {"dose_limit": 0.5, "caps": {"image": 0.2}},
        "other": RULES["main"] | changes,
    }
    policies = load_policy_set(write(tmp_path, policies=rules))
    assert policies.allows(policies.policies["other"]) == allowed
    rules["other"]["selectable"] = True
    policies = load_policy_set(write(tmp_path, policies=rules))
    assert policies.allows(policies.policies["other"])


@pytest.mark.parametrize(
    "field", [{"window": {"decode_tokens": 9}}, {"dose_limit": 0.5}, {"caps": {"image": 0.5}}]
)
@pytest.mark.parametrize("strategy", ["ras", "cascade"])
def test_a_blend_takes_no_field_of_the_residual_stream(
    tmp_path: Path, field: dict[str, Any], strategy: str
) -> None:
    write_bundle(tmp_path / "c", strategy=strategy, hidden=8)
    rule = {"mode": "enforce", "bundle": "c"}
    load_policy_set(write(tmp_path, policies={"main": rule}))
    with pytest.raises(FileError, match=f"{next(iter(field))}: it has no meaning"):
        load_policy_set(write(tmp_path, policies={"main": rule | field}))
