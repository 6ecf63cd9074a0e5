"""What a build will cost, stage by stage, from counts and sizes alone; the arithmetic is shown.

Where a count depends on what the model answers, such as how many requests it refuses, the most that
can come is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refusal_steering.bundle import RiskPass
from refusal_steering.engine import EngineFacts
from refusal_steering.methods.ras import RISK_PROMPTS
from refusal_steering.pipeline.media.blending.risk import ANSWER_TOKENS, PAIRS
from refusal_steering.pipeline.media.build import CANARY_PROMPTS
from refusal_steering.pipeline.media.gate.dose import DOSE_TOKENS, places_for_dose
from refusal_steering.pipeline.media.gate.examples import MediaExamples, gate_texts
from refusal_steering.pipeline.media.gate.fitting import (
    COPIES,
    prompts_of_a_step,
    reread_places,
)
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.region import NEUTRAL_PROMPTS, TRIED, neutral_items
from refusal_steering.pipeline.media.requests import TEXT, MediaRequest, Requests
from refusal_steering.pipeline.media.trial import TRIAL_TOKENS
from refusal_steering.prompts.neutral_media import NEUTRAL_SIZES
from refusal_steering.prompts.risk_question import takes_context

# Prompt tokens, roughly: words with their template, a question about them, what the template puts
# around a turn, and what one medium adds where the model's processor does not allow less.
_TEXT_TOKENS, _QUESTION_TOKENS, _TURN_TOKENS = 60, 60, 20
_MEDIUM_TOKENS = {"image": 750, "video": 900, "audio": 150}
_CONTEXT_TOKENS: int = RiskPass.model_fields["context_tokens"].default
_SEEN = ("image", "video")
# Strategies that ask the model about a request, whose canaries are no residual rows.
_ASKING = ("ras", "cascade")
# Operations a second: two cores of a CPU, and a GPU.
_CPU, _GPU = 1e11, 2e14
# Conversations that a GPU's engine has on their way at once.
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage asks: conversations, and tokens that are read and written for them.

    ``memory`` are bytes beside the engine, ``sum`` what they are made of.
    """

    stage: str
    asked: int = 0
    tokens: int = 0
    memory: int = 0
    sum: str = ""

    def and_asks(self, *more: tuple[int, int]) -> Cost:
        """With more conversations, each of so many tokens."""
        asked = self.asked + sum(count for count, _ in more)
        tokens = self.tokens + sum(count * each for count, each in more)
        return Cost(self.stage, asked, tokens, self.memory, self.sum)


def costs(plan: MediaPlan, requests: Requests, facts: EngineFacts) -> list[Cost]:
    """The cost of every stage of ``plan``, in order."""
    learning = requests.part("train", "tune")
    rows, width = len(learning.all), facts.identity.hidden_size
    found = [
        _rows("rows", learning, facts),
        Cost("vectors", 0, 0, 2 * rows * width * 4, f"2 x {rows} rows x {width} x 4 bytes"),
    ]
    for strategy in plan.strategies:
        made = _STRATEGIES.get(strategy, _adding)(strategy, plan, learning, facts)
        found.append(made.and_asks(*_canary(learning, strategy)))
    if (held := requests.part("held")).all:
        found.append(_rows("held-out rows", held, facts))
    return [*found, _trial(plan, requests, facts)]


def cost_lines(plan: MediaPlan, requests: Requests, facts: EngineFacts) -> Iterator[str]:
    """The costs in words."""
    depth, width = facts.identity.num_layers, facts.identity.hidden_size
    parameters = 12 * depth * width**2 + facts.vocabulary * width
    yield (
        f"parameters {parameters:.2g} = 12 x {depth} layers x {width}^2 + {facts.vocabulary} "
        f"tokens x {width}; time is 2 x parameters x tokens / {_CPU:.0e} a second on two cores "
        f"of a CPU, / {_GPU:.0e} on a GPU; roughly, without what media and starts cost"
    )
    seconds = 0.0
    for one in costs(plan, requests, facts):
        work = 2.0 * parameters * one.tokens
        seconds += work
        asks = f"{one.asked:,} requests, {one.tokens:,} tokens: {_times(work)}; " * bool(one.asked)
        memory = f"{size(one.memory)} of memory ({one.sum})" if one.memory else "memory as above"
        yield f"{one.stage:10} {asks}{memory}"
    yield f"together   {_times(seconds)}"
    if layers := plan.gate_layers(depth):
        taught = _taught(plan, requests.part("train", "tune"), facts)
        disk = size(taught * len(layers) * width * 2)
        yield (
            f"gate       {disk} on disk ({taught:,} token rows x {len(layers)} layers x {width} x "
            f"2 bytes; it reads layers {', '.join(map(str, layers))})"
        )


def size(count: float) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GB" if count > 2**30 else f"{math.ceil(count / 2**20)} MB"


def _times(work: float) -> str:
    return f"{_time(work / _CPU)} on a CPU, {_time(work / _GPU)} on a GPU"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds > 120 else f"{math.ceil(seconds)} s"


def _rows(stage: str, requests: Requests, facts: EngineFacts) -> Cost:
    depth, width = facts.identity.num_layers, facts.identity.hidden_size
    batch = min(len(requests.all), _BATCH)
    return Cost(
        stage,
        len(requests.all),
        sum(_tokens(one, facts) for one in requests.all),
        2 * batch * depth * width * 4,
        f"2 x {batch} rows x {depth} layers x {width} x 4 bytes",
    )


def _tokens(one: MediaRequest, facts: EngineFacts) -> int:
    return _TEXT_TOKENS + sum(_medium_tokens(medium, facts) for medium in one.media)


def _medium_tokens(medium: str, facts: EngineFacts) -> int:
    usual = _MEDIUM_TOKENS[medium]
    return min(usual, facts.medium_tokens.get(medium, usual))


def _adding(strategy: str, plan: MediaPlan, learning: Requests, facts: EngineFacts) -> Cost:
    """A strategy that is made from rows of its layers, without the engine but for its canary."""
    layers = 1 if strategy == "static" else plan.count if plan.layers is None else len(plan.layers)
    rows, width = len(learning.all), facts.identity.hidden_size
    return Cost(
        strategy,
        memory=2 * layers * rows * width * 4,
        sum=f"2 x {layers} layers x {rows} rows x {width} x 4 bytes",
    )


def _promptgate(strategy: str, plan: MediaPlan, learning: Requests, facts: EngineFacts) -> Cost:
    texts = gate_texts(plan.seed, plan.gate.families, plan.texts)
    examples = MediaExamples.of(texts, learning)
    tokens = _taught(plan, learning, facts)
    tuned = int(examples.labels.tuning.sum())
    mean, width = tokens // len(examples.all), facts.identity.hidden_size
    batch = prompts_of_a_step(plan.gate.recipe, mean, width)
    made = Cost(
        strategy,
        len(examples.all),
        tokens,
        memory=COPIES * batch * mean * width * 4,
        sum=f"{COPIES} x {batch} prompts x {mean} tokens x {width} x 4 bytes",
    )
    tried = [
        (len(plan.doses), _tokens(learning.all[place], facts) + DOSE_TOKENS)
        for place in places_for_dose(learning, learning.groups)
    ]
    # What the template writes, some tuning requests once more, and the prompt of the canary.
    return made.and_asks(*tried, (2 + len(reread_places(range(tuned))), mean), (1, _TEXT_TOKENS))


def _taught(plan: MediaPlan, learning: Requests, facts: EngineFacts) -> int:
    """Tokens of everything that the gate is taught with."""
    texts = gate_texts(plan.seed, plan.gate.families, plan.texts).conversations
    spoken = sum(len(turn.content) // 3 + _TURN_TOKENS for told in texts for turn in told)
    return spoken + sum(_tokens(one, facts) for one in learning.all)


def _mars(strategy: str, _: MediaPlan, learning: Requests, facts: EngineFacts) -> Cost:
    rows, harmless = len(learning.chosen(group=TEXT)), len(learning.chosen("tune", TEXT, False))
    depth, width = facts.identity.num_layers, facts.identity.hidden_size
    prompts = min(NEUTRAL_PROMPTS, len(learning.chosen("train", TEXT, False)))
    neutral = [
        (prompts * len(NEUTRAL_SIZES[medium]), _TEXT_TOKENS + count * _medium_tokens(medium, facts))
        for medium, items in neutral_items(facts).items()
        for count in range(1, items + 1)
    ]
    tried = min(TRIED, len(learning.chosen("train", TEXT, True))) + 2 * min(TRIED, harmless)
    made = Cost(
        strategy,
        memory=2 * depth * rows * width * 4,
        sum=f"2 x {depth} layers x {rows} rows of text x {width} x 4 bytes",
    )
    return made.and_asks(
        *_answers(learning), (tried, _TEXT_TOKENS), (prompts, _TEXT_TOKENS), *neutral
    )


def _ras(strategy: str, plan: MediaPlan, learning: Requests, facts: EngineFacts) -> Cost:
    how, harmful = plan.ras, len(learning.chosen("train", TEXT, True))
    group = next(name for name in PAIRS if name in learning.groups)
    asked = [
        learning.all[place]
        for label in (True, False)
        for place in learning.chosen("tune", group, label)[: how.requests // 2]
    ]
    # Whose refusals are known, those of mars are read again.
    known = () if "mars" in plan.strategies else _answers(learning)
    read = (min(how.prompts, harmful), _TEXT_TOKENS + how.tokens)
    states = how.tokens * facts.vocabulary * 4
    made = Cost(strategy, memory=states, sum=f"{how.tokens} x {facts.vocabulary} logits x 4 bytes")
    return made.and_asks(*known, read, *_risks(asked, RISK_PROMPTS, how.tokens, facts))


def _cascade(strategy: str, plan: MediaPlan, learning: Requests, facts: EngineFacts) -> Cost:
    """What its two parts cost, but for those that are strategies of the same build."""
    made = Cost(strategy)
    for name, cost in (("mars", _mars), ("ras", _ras)):
        if name not in plan.strategies:
            part = cost(strategy, plan, learning, facts)
            most = max(made, part, key=lambda one: one.memory)
            asked, tokens = made.asked + part.asked, made.tokens + part.tokens
            made = Cost(strategy, asked, tokens, most.memory, most.sum)
    return made


_STRATEGIES: Mapping[str, Callable[[str, MediaPlan, Requests, EngineFacts], Cost]] = {
    "promptgate": _promptgate,
    "mars": _mars,
    "ras": _ras,
    "cascade": _cascade,
}


def _answers(learning: Requests) -> tuple[tuple[int, int], ...]:
    """Which text requests the model refuses by itself."""
    return ((len(learning.chosen("train", TEXT)), _TEXT_TOKENS + ANSWER_TOKENS),)


def _canary(learning: Requests, strategy: str) -> tuple[tuple[int, int], ...]:
    """Prompts unsteered and steered, and the chosen one read again."""
    prompts = sum(
        min(CANARY_PROMPTS, len(learning.chosen("train", TEXT, label))) for label in (True, False)
    )
    return ((2 * prompts + (1 if strategy in _ASKING else 2), _TEXT_TOKENS),)


def _risks(
    asked: Sequence[MediaRequest], prompts: Sequence[str], tokens: int, facts: EngineFacts
) -> Iterator[tuple[int, int]]:
    """Every request's question by every wording, with a sentence about each medium and without."""
    for prompt in prompts:
        for one in asked:
            seen = [medium for medium in one.media if medium in _SEEN] * takes_context(prompt)
            for medium in seen:
                yield 1, _TEXT_TOKENS + _medium_tokens(medium, facts) + _CONTEXT_TOKENS
            yield (2 if seen else 1), _tokens(one, facts) + _QUESTION_TOKENS + tokens


def _trial(plan: MediaPlan, requests: Requests, facts: EngineFacts) -> Cost:
    held: list[Any] = list(requests.part("held").all)
    arms = [(1 + len(plan.strategies), _tokens(one, facts) + TRIAL_TOKENS) for one in held]
    asking = [strategy for strategy in plan.strategies if strategy in _ASKING]
    risks = [one for _ in asking for one in _risks(held, RISK_PROMPTS[:1], plan.ras.tokens, facts)]
    return Cost("trial").and_asks(*arms, *risks)
