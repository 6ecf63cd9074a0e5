"""The prefix cache shares what is equal and nothing else, in every order."""

from __future__ import annotations

import pytest

from tests.engine import laws
from tests.engine.conftest import Outcomes
from tests.engine.spec import Answer

pytestmark = pytest.mark.engine

# Prompts of 70 and 64 tokens over blocks of 32. The last prompt token is always computed, so of
# the 64 only the first block can be found by anybody.
SHARED = {"inside a block": 64, "ends on a block": 32}
ENGINES = pytest.mark.parametrize("engine", ["eager", "v2"])
PROMPTS = pytest.mark.parametrize("prompt", SHARED)


@ENGINES
@PROMPTS
def test_unsteered_after_steered_is_not_polluted(
    outcome: Outcomes, engine: str, prompt: str
) -> None:
    run = outcome(engine)
    steered, plain = run.scenario(f"{prompt}: steered, unsteered")
    assert (steered.cached, plain.cached) == (0, SHARED[prompt])
    laws.same([plain], run.scenario(f"{prompt}: unsteered cold"))
    laws.same([steered], run.scenario(f"{prompt}: steered cold"))


@ENGINES
@PROMPTS
def test_steered_after_unsteered_is_steered_in_full(
    outcome: Outcomes, engine: str, prompt: str
) -> None:
    run = outcome(engine)
    plain, steered = run.scenario(f"{prompt}: unsteered, steered")
    assert (plain.cached, steered.cached) == (0, SHARED[prompt])
    laws.same([steered], run.scenario(f"{prompt}: steered cold"))


@ENGINES
@PROMPTS
def test_one_policy_shares_with_itself(outcome: Outcomes, engine: str, prompt: str) -> None:
    run = outcome(engine)
    first, again = run.scenario(f"{prompt}: steered, steered")
    assert (first.cached, again.cached) == (0, SHARED[prompt])
    laws.same([first, again], 2 * run.scenario(f"{prompt}: steered cold"))


@ENGINES
@PROMPTS
def test_plain_requests_still_share(outcome: Outcomes, engine: str, prompt: str) -> None:
    first, again = outcome(engine).scenario(f"{prompt}: unsteered, unsteered")
    assert (first.cached, again.cached) == (0, SHARED[prompt])
    laws.same([again], [first])


@ENGINES
@PROMPTS
def test_another_strength_or_version_shares_only_what_comes_before(
    outcome: Outcomes, engine: str, prompt: str
) -> None:
    run = outcome(engine)
    full, half, version, again = run.scenario(f"{prompt}: other strength, version")
    assert [a.cached for a in (half, version, again)] == [SHARED[prompt]] * 3
    laws.same([half], run.scenario(f"{prompt}: other strength cold"))
    laws.same([version, again], [full, full])


@ENGINES
def test_the_next_turn_recomputes_what_was_steered(outcome: Outcomes, engine: str) -> None:
    fact = outcome(engine).facts["next_turn"]
    warm, cold = ([Answer(**answer) for answer in fact[kind]] for kind in ("warm", "cold"))
    # 134 tokens; the block from 64 on holds the first turn's last prompt token at 69.
    assert [answer.cached for answer in warm] == [64, 128]
    assert [answer.cached for answer in cold] == [0, 0]
    laws.same(warm, cold)
