from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.caller import Caller, Origin
from refusal_server.chat import report
from refusal_server.chat.request import ChatCall, ChatIntake
from refusal_server.chat.steering_field import SteeringChoice, choose, parse_ask
from refusal_server.errors import ApiError
from refusal_server.events import Denied, NoEvents
from refusal_server.files.yaml_file import FileError
from refusal_server.media.guard import MediaGuard
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.policy.policy_set import PolicySet
from refusal_server.settings import Limits, Media
from refusal_server.telemetry.ending import Admitted, Measurement
from refusal_server.telemetry.metrics import Metrics
from refusal_steering.gate.token_texts import TokenTexts
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.media_reader import HERE

MAIN: dict[str, Any] = {"mode": "enforce", "bundle": "b"}
SPLIT: dict[str, Any] = {"policy": "next", "share": 0.1}
NOTHING = Measurement()
IDS = [f"request-{number}" for number in range(10_000)]


def load(folder: Path, split: dict[str, Any] | None = None, **changes: Any) -> PolicySet:
    if not (folder / "b").exists():
        write_bundle(folder / "b", hidden=8)
    rules = {
        "main": MAIN | ({} if split is None else {"split": SPLIT | split}),
        "next": MAIN | {"strength": 1.5},
        "lax": MAIN | {"floor": 0.0},
        "off": {"mode": "off"},
    }
    content = {"default": "main", "policies": rules | changes.pop("rules", {})} | changes
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_policy_set(path)


def admitted(choice: SteeringChoice) -> Admitted:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
    request = ChatCompletionRequest(messages=messages)
    return ChatCall(request, choice, "text", messages).admitted


def told(choice: SteeringChoice) -> dict[str, Any]:
    assert choice.directive is not None
    return report.body(choice, choice.directive, [], NOTHING, 5, TokenTexts(None))


def pick(policies: PolicySet, value: Any = None, **origin: Any) -> SteeringChoice:
    return choose(parse_ask(value), policies, Origin(**origin))


def chosen(policies: PolicySet, ids: list[str]) -> set[str]:
    return {i for i in ids if pick(policies, request_id=i).policy.name == "next"}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("salt", ["", "spring"])
def test_the_share_is_stable_and_within_its_binomial_bounds(
    tmp_path: Path, share: float, salt: str
) -> None:
    policies = load(tmp_path, {"share": share, "salt": salt})
    first = chosen(policies, IDS)
    assert first == chosen(load(tmp_path, {"share": share, "salt": salt}), IDS)
    deviation = math.sqrt(len(IDS) * share * (1 - share))
    assert abs(len(first) - share * len(IDS)) < 4.5 * deviation


def test_a_larger_share_keeps_everybody_and_another_salt_draws_anew(tmp_path: Path) -> None:
    ids = IDS[:3000]
    small, large = (chosen(load(tmp_path, {"share": share}), ids) for share in (0.1, 0.3))
    assert small < large
    other = chosen(load(tmp_path, {"share": 0.1, "salt": "x"}), ids)
    assert len(small & other) < 0.25 * len(small)
    assert chosen(load(tmp_path, {"share": 0.0}), ids) == set()
    assert chosen(load(tmp_path, {"share": 1.0}), ids) == set(ids)


def test_the_arm_follows_the_policy_and_is_in_header_and_report(tmp_path: Path) -> None:
    policies = load(tmp_path, {"share": 0.5})
    arms = {choice.policy.name: choice for choice in (pick(policies, request_id=i) for i in IDS)}
    assert {name: choice.arm for name, choice in arms.items()} == {
        "main": "control",
        "next": "treatment",
    }
    for choice in arms.values():
        assert report.header(admitted(choice), NOTHING).endswith(f";arm={choice.arm}")
        assert told(choice)["arm"] == choice.arm
    plain = pick(load(tmp_path), request_id="1")
    assert plain.arm is None
    assert "arm" not in report.header(admitted(plain), NOTHING)
    assert "arm" not in told(plain)


def test_who_names_a_policy_or_a_strength_is_not_drawn(tmp_path: Path) -> None:
    policies = load(tmp_path, {"share": 1.0})
    for value in ({"policy": "main"}, {"strength": 1.2}):
        choice = pick(policies, value, request_id="1")
        assert (choice.policy.name, choice.arm) == ("main", None)
    assert pick(policies, {"report": True}, request_id="1").arm == "treatment"


def test_by_user_a_user_stays_in_one_arm_whatever_the_request(tmp_path: Path) -> None:
    policies = load(tmp_path, {"by": "user", "share": 0.5})
    arms = {
        user: {pick(policies, request_id=i, user=user).arm for i in IDS[:20]} for user in IDS[:200]
    }
    assert all(len(seen) == 1 for seen in arms.values())
    assert {arm for seen in arms.values() for arm in seen} == {"treatment", "control"}
    assert len({pick(policies, request_id=i).arm for i in IDS[:50]}) == 2


def test_by_key_a_key_stays_in_one_arm_and_nobody_without_one_is_drawn(tmp_path: Path) -> None:
    policies = load(tmp_path, {"by": "key", "share": 0.5})
    seen = set()
    for name in IDS[:200]:
        arms = {
            pick(policies, request_id=i, user=i, caller=Caller(name)).arm for i in ("a", "b", "c")
        }
        assert len(arms) == 1
        seen |= arms
    assert seen == {"treatment", "control"}
    assert pick(policies, request_id="1").arm is None


@pytest.mark.parametrize(
    ("split", "rules", "says"),
    [
        ({"policy": "none"}, {}, "is not one of"),
        ({"policy": "main"}, {}, "itself"),
        ({"share": 1.1}, {}, "share"),
        ({"share": "half"}, {}, "share"),
        ({"by": "tenant"}, {}, "by"),
        ({"shair": 0.1}, {}, "Did you mean 'share'"),
        ({}, {"next": MAIN | {"split": SPLIT | {"policy": "off"}}}, "has a split too"),
        ({"policy": "lax"}, {}, "weaker"),
        ({"policy": "off", "by": "user"}, {}, "weaker"),
        ({}, {"next": MAIN | {"models": ["m"]}}, "other models"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(
    tmp_path: Path, split: dict[str, Any], rules: dict[str, Any], says: str
) -> None:
    with pytest.raises(FileError, match=says) as caught:
        load(tmp_path, split, rules=rules)
    (problem,) = caught.value.problems
    assert says in problem.message


WORD = {"weaker": True}
OPEN = {"selectable": True}


@pytest.mark.parametrize(
    ("split", "rules", "says"),
    [
        ({"policy": "lax", "by": "key"}, {}, "weaker: true"),
        ({"policy": "lax", "by": "key", **WORD}, {}, None),
        ({"policy": "lax", "by": "user", **WORD}, {}, "trying ids"),
        ({"policy": "lax"}, {"lax": MAIN | {"floor": 0.0} | OPEN}, "weaker: true"),
        ({"policy": "lax", **WORD}, {"lax": MAIN | {"floor": 0.0} | OPEN}, None),
        ({"policy": "off", "by": "key"}, {}, "weaker: true"),
        ({"policy": "off", "by": "key", **WORD}, {}, None),
        ({"policy": "shown", "by": "key"}, {"shown": MAIN | {"mode": "shadow"}}, "weaker: true"),
        ({"policy": "shown", "by": "key", **WORD}, {"shown": MAIN | {"mode": "shadow"}}, None),
        ({"policy": "other"}, {"other": {"mode": "enforce", "bundle": "c"}}, "was not measured"),
        ({"policy": "other", "by": "key"}, {"other": MAIN | {"bundle": "c"}}, "was not measured"),
        ({"policy": "other", "by": "key", **WORD}, {"other": MAIN | {"bundle": "c"}}, None),
        ({"policy": "next", "by": "key", "weaker": "yes"}, {}, "weaker"),
    ],
)
def test_a_split_into_what_may_be_weaker_needs_the_word(
    tmp_path: Path, split: dict[str, Any], rules: dict[str, Any], says: str | None
) -> None:
    write_bundle(tmp_path / "c", hidden=8, seed=1)
    if says is None:
        assert load(tmp_path, split, rules=rules).policies["main"].rule.split is not None
        return
    with pytest.raises(FileError) as caught:
        load(tmp_path, split, rules=rules)
    (problem,) = caught.value.problems
    assert says in problem.message


@pytest.mark.parametrize(("mode", "other"), [("shadow", "main"), ("off", "main"), ("off", "shown")])
def test_a_control_that_steers_nothing_has_nothing_to_lose(
    tmp_path: Path, mode: str, other: str
) -> None:
    control: dict[str, Any] = {"mode": mode, "split": {"policy": other, "share": 0.1}}
    rules = {
        "control": control | ({} if mode == "off" else {"bundle": "b"}),
        "shown": MAIN | {"mode": "shadow"},
    }
    assert load(tmp_path, rules=rules, default="control").policies[other].bundle is not None


def test_off_after_shadow_needs_the_word(tmp_path: Path) -> None:
    split = {"policy": "off", "share": 0.1, "by": "key"}
    rules = {"main": MAIN | {"mode": "shadow", "split": split}}
    with pytest.raises(FileError, match="weaker: true"):
        load(tmp_path, rules=rules)


def test_the_key_comes_before_the_tenant_and_the_tenant_before_the_default(tmp_path: Path) -> None:
    policies = load(tmp_path, tenants={"acme": "next"})
    expected = {
        Caller("k"): "main",
        Caller("k", tenant="other"): "main",
        Caller("k", tenant="acme"): "next",
        Caller("k", tenant="acme", policy="lax"): "lax",
    }
    for caller, name in expected.items():
        assert pick(policies, caller=caller).policy.name == name
    with pytest.raises(FileError, match=r"tenants\.acme"):
        load(tmp_path, tenants={"acme": "nope"})


def denied(policies: PolicySet, value: Any, **origin: Any) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        pick(policies, value, **origin)
    return caught.value.status, caught.value.code


def test_a_key_names_only_its_policies_and_stays_above_its_own_default(tmp_path: Path) -> None:
    policies = load(tmp_path)
    forbidden = (403, "policy_not_allowed")
    closed, named = Caller("a", policies=frozenset()), Caller("b", policies=frozenset({"off"}))
    assert pick(policies, {"policy": "main"}, caller=closed).policy.name == "main"
    assert denied(policies, {"policy": "next"}, caller=closed) == forbidden
    assert pick(policies, {"policy": "off"}, caller=named).policy.name == "off"
    assert denied(policies, {"policy": "lax"}, caller=named) == forbidden
    strict = Caller("c", policy="next")
    assert denied(policies, {"policy": "main"}, caller=strict) == forbidden
    assert denied(policies, {"strength": 1.0}, caller=strict)[0] == 400
    assert pick(policies, {"policy": "next"}).policy.name == "next"


def test_a_key_whose_policy_is_gone_is_not_served_by_another(tmp_path: Path) -> None:
    caller = Caller("a", policy="gone")
    assert denied(load(tmp_path), None, caller=caller) == (503, "policy_unavailable")
    assert denied(load(tmp_path), {"policy": "lax"}, caller=caller)[0] == 403


def test_a_policy_for_some_models_is_for_no_other(tmp_path: Path) -> None:
    policies = load(tmp_path, rules={"main": MAIN | {"models": ["a"]}})
    assert pick(policies, model="a").policy.name == "main"
    for value in (None, {"policy": "main"}):
        assert denied(policies, value, model="b") == (403, "policy_not_allowed")


class Events(NoEvents):
    def __init__(self) -> None:
        self.seen: list[Denied] = []

    def denied(self, event: Denied) -> None:
        self.seen.append(event)


def test_every_denied_attempt_is_counted_and_told_by_the_keys_name(tmp_path: Path) -> None:
    policies = load(tmp_path)
    registry, events = CollectorRegistry(), Events()
    intake = ChatIntake(
        Limits(), MediaGuard(Media(), {}, HERE), ("m", "n"), Metrics("m", registry), events
    )
    caller = Caller("team", tenant="acme", models=frozenset("m"))
    attempts: list[tuple[Any, str, int, str | None, float | None]] = [
        ({"policy": "off"}, "m", 403, "off", None),
        ({"policy": "someone's secret"}, "m", 400, None, None),
        ({"strength": 0.5}, "m", 400, None, 0.5),
        ({"strength": 10**400}, "m", 400, None, None),
        ("nonsense", "m", 400, None, None),
        (None, "n", 403, None, None),
    ]
    for number, (value, model, status, policy, strength) in enumerate(attempts, 1):
        body = {"steering": value, "model": model, "messages": [{"role": "user", "content": "x"}]}
        with pytest.raises(ApiError) as caught:
            asyncio.run(intake.admit(body, policies, caller, f"r{number}"))
        assert caught.value.status == status
        event = events.seen[-1]
        assert len(events.seen) == number
        assert (event.request_id, event.key, event.tenant) == (f"r{number}", "team", "acme")
        assert (event.status, event.code) == (status, caught.value.code)
        assert (event.policy, event.strength) == (policy, strength)
        assert _denied(registry) == number


def _denied(registry: CollectorRegistry) -> float:
    samples = [sample for family in registry.collect() for sample in family.samples]
    return sum(each.value for each in samples if each.name == "steering_denied_total")


def test_an_admitted_call_knows_its_origin(tmp_path: Path) -> None:
    policies = load(tmp_path, {"by": "user", "share": 0.5})
    intake = ChatIntake(
        Limits(), MediaGuard(Media(), {}, HERE), ("m",), Metrics("m", CollectorRegistry())
    )
    caller = Caller("team")
    names = {"user": "u", "safety_identifier": "s"}
    for fields, user in (({}, None), ({"user": "u"}, "u"), (names, "s")):
        body = {**fields, "messages": [{"role": "user", "content": "x"}]}
        call = asyncio.run(intake.admit(body, policies, caller, "r"))
        assert call.origin == Origin(caller, "r", user, "m")
        assert call.choice == replace(pick(policies, request_id="r", user=user), media=())
