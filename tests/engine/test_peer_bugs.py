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


def test_a_share_that_the_device_sets_equals_one_that_the_host_sets(
    run: Outcome, good: Answer, plain: Answer
) -> None:
    above, below, *neighbours = run.scenario("shares that the device sets")
    blended, unblended = run.scenario("shares that the host sets")
    assert blended.tokens != unblended.tokens
    laws.same([above, below], [blended, unblended])
    assert [above.blended, below.blended] == [blended.blended, unblended.blended] == [3, 3]
    laws.same(neighbours, [good, plain])


def test_a_prefix_that_is_found_changes_no_share(run: Outcome) -> None:
    known, first, again = run.scenario("shares behind a prefix that is found")
    laws.same([first, again], [known] * 2)
    assert known.blended == first.blended == again.blended == 3


def test_the_device_sets_the_share_of_every_choice(run: Outcome, plain: Answer) -> None:
    choices, (neighbour,) = run.answers["shares of choices"]
    (blended, _) = run.scenario("shares that the host sets")
    laws.same(choices, [blended] * 3)
    assert [choice.blended for choice in choices] == [3] * 3
    laws.same([neighbour], [plain])


def test_a_share_that_is_left_open_lets_no_token_pass(run: Outcome, plain: Answer) -> None:
    streamed, whole, *neighbours = run.scenario("a share that is left open")
    for answer in (streamed, whole):
        assert answer.error is not None and answer.error.startswith("UndecidedRiskError")
        assert answer.tokens == []
    (blended, _) = run.scenario("shares that the host sets")
    laws.same(neighbours, [blended, plain])


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
