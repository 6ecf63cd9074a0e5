"""The laws of the engine under ``torch.compile`` and captured graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.engine.calls import CALLS
from tests.engine.laws import expected_rows
from tests.engine.test_laws import TOUCHED, UNTOUCHED, pick
from tests.gpu.agreement import EXACT, Verdict, agree
from tests.gpu.case_engines import CaseEngines
from tests.gpu.machine import CUDA

Law = Callable[[CaseEngines], Verdict]


def settings_are_real(engines: CaseEngines) -> Verdict:
    """The runner, the compilation and the graphs that this case is about were really there."""
    facts, missing = engines["captured"].facts, []
    if facts["v2_runner"] != bool(engines.case.runner):
        missing.append("the other runner ran")
    if engines.case.device == CUDA:
        if not facts["compiled"]:
            missing.append("nothing was compiled")
        captured = "Graph capturing finished" in engines.log("captured")
        if "FULL" not in facts["graphs"] or not captured:
            missing.append("no full graphs were captured")
    return Verdict(not missing, note="; ".join(missing) or str(facts))


def silence_is_exact(engines: CaseEngines) -> Verdict:
    """In one engine zero and shadow requests answer bit for bit as unsteered ones."""
    alone, plain = engines["captured"].scenario("alone"), engines["captured"].scenario("plain")
    silent = [replace(answer, positions=[], coefficients=[]) for answer in alone]
    return agree(pick(silent, UNTOUCHED), pick(plain, UNTOUCHED), EXACT)


def idle_is_exact_when_eager(engines: CaseEngines) -> Verdict:
    """Without a compiler the armed and idle engine answers bit for bit as stock vLLM."""
    eager, stock = engines["eager"], engines["stock eager"]
    return agree(eager.scenario("plain"), stock.scenario("plain"), EXACT)


def idle_equals_stock(engines: CaseEngines) -> Verdict:
    """Compiled, armed and idle, the engine answers as stock vLLM, but for rounding.

    Inductor keeps sums between layers in float32 where nothing reads them, and the operator does.
    """
    captured, stock = engines["captured"].scenario("plain"), engines["stock"].scenario("plain")
    return agree(captured, stock, engines.tolerance)


def steering_changes_answers(engines: CaseEngines) -> Verdict:
    """The first token of a steered request knows it; a request steered to its end says other."""
    alone, plain = engines["captured"].scenario("alone"), engines["captured"].scenario("plain")
    first = sum(alone[i].logprobs[:1] != plain[i].logprobs[:1] for i in TOUCHED)
    long = [i for i in TOUCHED if CALLS[i].window is None]
    other = sum(alone[i].tokens != plain[i].tokens for i in long)
    holds = first == len(TOUCHED) and other == len(long)
    note = f"{first} of {len(TOUCHED)} first tokens, {other} of {len(long)} answers"
    return Verdict(holds, note=note)


def mixed_equals_solo(engines: CaseEngines) -> Verdict:
    """Calls that share a batch answer as they do alone."""
    run = engines["captured"]
    return agree(run.scenario("together"), run.scenario("alone"), engines.tolerance)


def adaptive_strength_equals_the_reference(engines: CaseEngines) -> Verdict:
    """Answers and strengths are those of transformers with hooks, in float32."""
    return agree(engines["captured"].scenario("alone"), engines.reference, engines.tolerance)


def captured_equals_eager(engines: CaseEngines) -> Verdict:
    """Compilation and graphs change nothing."""
    captured, eager = engines["captured"].scenario("alone"), engines["eager"].scenario("alone")
    return agree(captured, eager, engines.tolerance)


def chunked_equals_whole(engines: CaseEngines) -> Verdict:
    """Prompts that come in chunks are steered alike."""
    chunked, whole = engines["tight"].scenario("alone"), engines["captured"].scenario("alone")
    return agree(chunked, whole, engines.tolerance)


def preempted_equals_undisturbed(engines: CaseEngines) -> Verdict:
    """Preempted requests answer as if they had never been."""
    tight, roomy = engines["tight"], engines["captured"]
    verdict = agree(tight.scenario("crowded"), roomy.scenario("crowded"), engines.tolerance)
    happened = tight.facts["preemptions"] > 0 and roomy.facts["preemptions"] == 0
    note = f"{tight.facts['preemptions']} preemptions {verdict.note}"
    return replace(verdict, holds=verdict.holds and happened, note=note)


def every_promised_row_is_steered(engines: CaseEngines) -> Verdict:
    """The device steered as many rows as were promised, and no other."""
    wrong = [
        f"{name}/{scenario}/{number}: {answer.rows}"
        for name in ("captured", "tight")
        for scenario in ("together", "alone")
        for number, (call, answer) in enumerate(
            zip(CALLS, engines[name].scenario(scenario), strict=True)
        )
        if answer.rows != (expected_rows(call) if call.bundle else 0)
    ]
    return Verdict(not wrong, 4 * len(CALLS), note="; ".join(wrong))


# The engine under test alone first, so that a run that is cut short has said the most.
LAWS: Sequence[Law] = (
    settings_are_real,
    steering_changes_answers,
    mixed_equals_solo,
    adaptive_strength_equals_the_reference,
    silence_is_exact,
    idle_equals_stock,
    captured_equals_eager,
    idle_is_exact_when_eager,
    chunked_equals_whole,
    preempted_equals_undisturbed,
    every_promised_row_is_steered,
)


def judge(engines: CaseEngines, until: float) -> Iterator[Verdict]:
    """Every law's verdict; an engine that does not start fails the laws that need it.

    After ``until`` on the monotonic clock the rest counts as not judged, which is not "holds".
    """
    for law in LAWS:
        if time.monotonic() > until:
            verdict = Verdict(False, note="not judged: out of time")
        else:
            verdict = _verdict(law, engines)
        yield replace(verdict, law=law.__name__)


def _verdict(law: Law, engines: CaseEngines) -> Verdict:
    try:
        return law(engines)
    except Exception as error:
        return Verdict(False, note=f"{type(error).__name__}: {str(error)[-3000:]}")
