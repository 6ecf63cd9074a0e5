"""Bugs that other steering engines shipped (or still ship), each as a law that holds here."""

from __future__ import annotations

import pytest

from tests.engine import calls, laws
from tests.engine.conftest import Outcomes
from tests.engine.spec import Answer, Outcome

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def run(outcome: Outcomes) -> Outcome:
    return outcome("eager")


@pytest.fixture(scope="module")
def good(run: Outcome) -> Answer:
    return run.scenario("good alone")[0]


@pytest.fixture(scope="module")
def plain(run: Outcome) -> Answer:
    return run.scenario("plain alone")[0]


def test_a_bad_request_ends_alone_and_is_never_answered(
    run: Outcome, good: Answer, plain: Answer
) -> None:
    first, *bad, last = run.scenario("bad neighbours")
    laws.same([first, last], [good, plain])
    for answer in bad:
        assert answer.error is not None and answer.error.startswith("SteeringUnavailableError")
        assert answer.tokens == []


def test_the_engine_serves_on_after_bad_requests(run: Outcome, good: Answer, plain: Answer) -> None:
    laws.same(run.scenario("after bad neighbours"), [good, plain])


def test_every_choice_of_a_request_is_steered(run: Outcome, good: Answer, plain: Answer) -> None:
    choices, (neighbour,) = run.answers["several choices"]
    assert len(choices) == 3
    laws.same(choices, [good] * 3)
    laws.same([neighbour], [plain])
    assert [choice.rows for choice in choices] == [good.rows] * 3


def test_steering_does_not_leak_to_ids_that_begin_alike(
    run: Outcome, good: Answer, plain: Answer
) -> None:
    first, *others = run.scenario("ids that begin alike")
    laws.same([first, *others], [good] + [plain] * len(others))


def test_two_requests_may_choose_the_same_id(run: Outcome, good: Answer, plain: Answer) -> None:
    laws.same(run.scenario("one id twice"), [good, plain])


def test_a_client_cannot_write_a_directive(run: Outcome, plain: Answer) -> None:
    laws.bitwise(run.scenario("client writes our key"), [plain])


def test_prefill_is_steered_on_the_first_runner(good: Answer, outcome: Outcomes) -> None:
    unsteered = outcome("eager").scenario("plain")[1]
    assert good.logprobs[0] != unsteered.logprobs[0]


def test_the_step_after_a_neighbour_ends_is_still_steered(run: Outcome, good: Answer) -> None:
    laws.same(run.scenario("neighbour ends early")[:1], [good])


def test_distinct_strengths_do_not_run_out(run: Outcome) -> None:
    together = run.scenario("thirty-two strengths")
    laws.same(together[::6], run.scenario("thirty-two strengths alone"))
    assert len({answer.logprobs[0] for answer in together}) == 32
    assert all(answer.rows == 6 for answer in together)


def test_strength_zero_after_steering_adds_nothing(outcome: Outcomes) -> None:
    run = outcome("eager")
    zero = next(i for i, call in enumerate(calls.CALLS) if call.bundle and call.strength == 0)
    assert run.scenario("together")[zero].tokens == run.scenario("plain")[zero].tokens


def test_an_aborted_request_leaves_no_trace(run: Outcome, good: Answer, plain: Answer) -> None:
    laws.same(run.scenario("aborted")[1:], [plain])
    laws.same(run.scenario("after the abort"), [good, plain])


def test_a_one_token_tail_of_a_prompt_is_no_decode_token(outcome: Outcomes) -> None:
    # Chunks of 64 tokens: the exact prompt of 64 and the one of 70 leave tails, and in the mixed
    # batch decode tokens shift the chunk borders through every length.
    laws.same(outcome("chunked").scenario("together"), outcome("eager").scenario("alone"))


def test_an_engine_without_the_steered_worker_never_answers_unsteered(outcome: Outcomes) -> None:
    answers = outcome("unattached").scenario("together")
    for call, answer in zip(calls.CALLS, answers, strict=True):
        assert (answer.error is not None) == (call.bundle is not None)
        assert not (call.bundle and answer.tokens)
