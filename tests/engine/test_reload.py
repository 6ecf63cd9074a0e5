"""Bundles and policy versions change while the engine runs, and every rank says so."""

from __future__ import annotations

import pytest

from refusal_steering.bundle import load_bundle
from tests.engine import laws
from tests.engine.conftest import EngineFixture, Outcomes
from tests.engine.spec import Outcome

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def run(outcome: Outcomes) -> Outcome:
    return outcome("eager")


def test_a_bundle_loads_into_the_running_engine(
    run: Outcome, engine_fixture: EngineFixture
) -> None:
    digest = load_bundle(engine_fixture.bundles["late"]).digest
    assert run.scenario("late before")[0].error is not None
    late, good = run.scenario("late after")
    assert late.error is None and late.rows == 16
    assert all(digest in held for held in run.facts["load_late"])
    laws.same([good], run.scenario("good alone"))
    assert late.tokens != good.tokens


@pytest.mark.parametrize(
    ("scenario", "script", "words"),
    [
        ("damaged", "load_damaged", "damaged"),
        ("foreign", "load_foreign", "hidden size 64"),
        ("deeper", "load_other_layers", "layers [3]"),
        ("not acknowledged", "acknowledge_missing", "not loaded on this rank"),
    ],
)
def test_what_cannot_be_loaded_is_refused_and_changes_nothing(
    run: Outcome, scenario: str, script: str, words: str
) -> None:
    assert words in run.facts[script]
    laws.same(run.scenario(scenario), run.scenario("good alone"))


def test_a_policy_version_is_acknowledged_by_every_rank(run: Outcome) -> None:
    assert run.facts["acknowledge"] == ["policy-7"]


def test_a_retired_bundle_is_gone_and_fails_closed(
    run: Outcome, engine_fixture: EngineFixture
) -> None:
    digest = load_bundle(engine_fixture.bundles["late"]).digest
    assert all(digest not in held for held in run.facts["retire_late"])
    late, good = run.scenario("retired")
    assert late.error is not None and not late.tokens
    laws.same([good], run.scenario("good alone"))
