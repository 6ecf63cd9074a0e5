"""The laws of the engine under ``torch.compile`` and captured graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.engine.calls import CALLS
from tests.engine.laws import expected_rows
from tests.engine.test_laws import TOUCHED, UNTOUCHED, pick
from tests.gpu.agreement import EXACT, Verdict, agree
from tests.gpu.machine import CUDA
from tests.gpu.theatre import Theatre

Law = Callable[[Theatre], Verdict]


def settings_are_real(theatre: Theatre) -> Verdict:
    """The runner, the compilation and the graphs that this case is about were really there."""
    facts, missing = theatre["captured"].facts, []
    if facts["v2_runner"] != bool(theatre.case.runner):
        missing.append("the other runner ran")
    if theatre.case.device == CUDA:
        if not facts["compiled"]:
            missing.append("nothing was compiled")
        captured = "Graph capturing finished" in theatre.log("captured")
        if "FULL" not in facts["graphs"] or not captured:
            missing.append("no full graphs were captured")
    return Verdict(not missing, note="; ".join(missing) or str(facts))


def idle_equals_stock(theatre: Theatre) -> Verdict:
    """Armed and idle, the engine answers bit for bit as stock vLLM."""
    return agree(theatre["captured"].scene("plain"), theatre["stock"].scene("plain"), EXACT)


def zero_strength_equals_stock(theatre: Theatre) -> Verdict:
    """Unsteered, zero and shadow requests answer bit for bit as stock vLLM."""
    alone, stock = theatre["captured"].scene("alone"), theatre["stock"].scene("plain")
    silent = [replace(answer, positions=[], coefficients=[]) for answer in alone]
    return agree(pick(silent, UNTOUCHED), pick(stock, UNTOUCHED), EXACT)


def steering_changes_answers(theatre: Theatre) -> Verdict:
    """The first token of a steered request knows it; a request steered to its end says other."""
    alone, plain = theatre["captured"].scene("alone"), theatre["captured"].scene("plain")
    first = sum(alone[i].logprobs[:1] != plain[i].logprobs[:1] for i in TOUCHED)
    long = [i for i in TOUCHED if CALLS[i].window is None]
    other = sum(alone[i].tokens != plain[i].tokens for i in long)
    holds = first == len(TOUCHED) and other == len(long)
    note = f"{first} of {len(TOUCHED)} first tokens, {other} of {len(long)} answers"
    return Verdict(holds, note=note)


def mixed_equals_solo(theatre: Theatre) -> Verdict:
    """Calls that share a batch answer as they do alone."""
    run = theatre["captured"]
    return agree(run.scene("together"), run.scene("alone"), theatre.tolerance)


def adaptive_strength_equals_the_reference(theatre: Theatre) -> Verdict:
    """Answers and strengths are those of transformers with hooks, in float32."""
    return agree(theatre["captured"].scene("alone"), theatre.reference, theatre.tolerance)


def captured_equals_eager(theatre: Theatre) -> Verdict:
    """Compilation and graphs change nothing."""
    captured, eager = theatre["captured"].scene("alone"), theatre["eager"].scene("alone")
    return agree(captured, eager, theatre.tolerance)


def chunked_equals_whole(theatre: Theatre) -> Verdict:
    """Prompts that come in chunks are steered alike."""
    chunked, whole = theatre["tight"].scene("alone"), theatre["captured"].scene("alone")
    return agree(chunked, whole, theatre.tolerance)


def preempted_equals_undisturbed(theatre: Theatre) -> Verdict:
    """Preempted requests answer as if they had never been."""
    tight, roomy = theatre["tight"], theatre["captured"]
    verdict = agree(tight.scene("crowd"), roomy.scene("crowd"), theatre.tolerance)
    happened = tight.facts["preemptions"] > 0 and roomy.facts["preemptions"] == 0
    note = f"{tight.facts['preemptions']} preemptions {verdict.note}"
    return replace(verdict, holds=verdict.holds and happened, note=note)


def every_promised_row_is_steered(theatre: Theatre) -> Verdict:
    """The device steered as many rows as were promised, and no other."""
    wrong = [
        f"{name}/{scene}/{number}: {answer.rows}"
        for name in ("captured", "tight")
        for scene in ("together", "alone")
        for number, (call, answer) in enumerate(zip(CALLS, theatre[name].scene(scene), strict=True))
        if answer.rows != (expected_rows(call) if call.bundle else 0)
    ]
    return Verdict(not wrong, 4 * len(CALLS), note="; ".join(wrong))


# The engine under test alone first, so that a run that is cut short has said the most.
LAWS: Sequence[Law] = (
    settings_are_real,
    steering_changes_answers,
    mixed_equals_solo,
    adaptive_strength_equals_the_reference,
    idle_equals_stock,
    zero_strength_equals_stock,
    captured_equals_eager,
    chunked_equals_whole,
    preempted_equals_undisturbed,
    every_promised_row_is_steered,
)


def judge(theatre: Theatre, until: float) -> Iterator[Verdict]:
    """Every law's verdict; an engine that does not start fails the laws that need it.

    After ``until`` on the monotonic clock the rest counts as not judged, which is not "holds".
    """
    for law in LAWS:
        if time.monotonic() > until:
            verdict = Verdict(False, note="not judged: out of time")
        else:
            verdict = _verdict(law, theatre)
        yield replace(verdict, law=law.__name__)


def _verdict(law: Law, theatre: Theatre) -> Verdict:
    try:
        return law(theatre)
    except Exception as error:
        return Verdict(False, note=f"{type(error).__name__}: {str(error)[-3000:]}")
