"""Detectors: a stream is judged as its whole text is, and a sampled one blocks nobody."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
    DeltaMessage,
)

from refusal_server.detection.answer_text import Said, StreamedAnswer
from refusal_server.detection.outcome import outcome_of
from refusal_server.detection.sampler import SampledDetector
from refusal_steering.detection.detector import HEAD
from refusal_steering.detection.lexical import LexicalDetector

REFUSAL = "I'm sorry, but I can't help with that. "
LEXICAL = LexicalDetector()


def event(choice: int = 0, **delta: object) -> str:
    """One event exactly as vLLM writes it."""
    said = ChatCompletionResponseStreamChoice(
        index=choice, delta=DeltaMessage(**delta), logprobs=None, finish_reason=None
    )
    chunk = ChatCompletionStreamResponse(id="1", created=1, choices=[said], model="m")
    return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"


def streamed(events: Sequence[str], choices: int = 1) -> list[Said]:
    answer = StreamedAnswer(choices)
    for each in events:
        answer.add(each)
    return answer.said()


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


texts = st.one_of(
    st.text(max_size=900),
    st.builds(
        lambda before, after: before + REFUSAL + after,
        st.text(max_size=260),
        st.text(max_size=300),
    ),
    st.just('{"content":"","x":"I can\'t help"}\\"' + REFUSAL),
)


@given(text=texts, places=st.lists(st.integers(0, 900), max_size=60), thought=st.text(max_size=90))
@settings(deadline=None)
def test_a_stream_is_judged_as_its_whole_text(text: str, places: list[int], thought: str) -> None:
    opening = event(role="assistant", content="")
    thinking = [event(reasoning=piece) for piece in (thought, REFUSAL) if piece]
    spoken = [event(content=piece) for piece in cut(text, places)]
    said = streamed([opening, *thinking, *spoken])
    assert said == [Said(text[:HEAD])]
    assert outcome_of(said, LEXICAL) == outcome_of([Said(text[:HEAD])], LEXICAL)


@given(pair=st.tuples(texts, texts), seed=st.integers(0, 99))
@settings(deadline=None)
def test_choices_of_one_stream_are_kept_apart(pair: tuple[str, str], seed: int) -> None:
    random = np.random.default_rng(seed)
    queues = [
        [event(index, content=piece) for piece in cut(text, list(random.integers(0, 900, 20)))]
        for index, text in enumerate(pair)
    ]
    mixed = []
    while any(queues):
        mixed.append(queues[random.choice([i for i in (0, 1) if queues[i]])].pop(0))
    assert streamed(mixed, 2) == [Said(text[:HEAD]) for text in pair]


def test_one_character_per_event_and_a_text_without_end_keep_what_is_needed() -> None:
    class Event(str):
        """A string of which can be asked whether anybody keeps it."""

    text = "x" * 100 + REFUSAL * 500
    answer = StreamedAnswer()
    events: list[weakref.ref[Event]] = []
    for character in text:
        made = Event(event(content=character))
        events.append(weakref.ref(made))
        answer.add(made)
    del made
    assert answer.said() == [Said(text[:HEAD])]
    assert sum(made() is not None for made in events) == HEAD


def test_thoughts_and_tool_calls_are_not_refusals() -> None:
    assert outcome_of(streamed([event(reasoning=REFUSAL)]), LEXICAL) == "empty"
    calls = event(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}])
    assert outcome_of(streamed([event(content=REFUSAL), calls]), LEXICAL) == "answer"
    assert outcome_of(streamed([event(content=REFUSAL)]), LEXICAL) == "refusal"


def test_a_request_is_a_refusal_only_if_all_that_speak_refuse() -> None:
    refusal, answer, nothing = Said(REFUSAL), Said("Here it is."), Said(" \n")
    broken = Said("I cannot help. " * 20)
    assert outcome_of([refusal, broken, nothing], LEXICAL) == "refusal"
    assert outcome_of([broken, answer], LEXICAL) == "answer"
    assert outcome_of([broken, nothing], LEXICAL) == "broken"
    assert outcome_of([], LEXICAL) == "empty"
    assert outcome_of([refusal, nothing], LEXICAL) == "refusal"
    assert outcome_of([refusal, answer], LEXICAL) == "answer"
    assert outcome_of([nothing, nothing], LEXICAL) == "empty"


class Counts:
    def __init__(self) -> None:
        self.judged = self.dropped = self.errors = 0

    def observe_detector(self, detector: str, seconds: float) -> None:
        self.judged += 1

    def count_detector_dropped(self, detector: str) -> None:
        self.dropped += 1

    def count_detector_error(self, detector: str) -> None:
        self.errors += 1


class Slow:
    name = "slow"

    def __init__(self) -> None:
        self.go = threading.Event()

    def refuses(self, head: str) -> bool:
        self.go.wait()
        if head == "bad":
            raise RuntimeError(head)
        return False


def test_a_stuck_detector_blocks_nobody_and_every_answer_is_accounted_for() -> None:
    slow, counts, verdicts = Slow(), Counts(), []
    sampled = SampledDetector(slow, counts, share=1.0, queue_size=8)
    for number in range(500):
        head = "bad" if number == 0 else "good"
        sampled.offer([Said(head)], lambda name, outcome: verdicts.append((name, outcome)))
    # Nothing was judged yet, so no call above has waited for the detector.
    assert (counts.judged, counts.errors) == (0, 0)
    assert counts.dropped >= 500 - 9
    slow.go.set()
    sampled.close(120)
    assert counts.errors == 1
    assert counts.judged == len(verdicts)
    assert counts.judged + counts.errors + counts.dropped == 500
    assert set(verdicts) == {("slow", "answer")}


def test_the_share_of_the_sample() -> None:
    draws = iter(np.linspace(0, 1, 1000, endpoint=False).tolist())
    counts = Counts()
    sampled = SampledDetector(
        LEXICAL, counts, share=0.25, queue_size=1000, draw=lambda: next(draws)
    )
    for _ in range(1000):
        sampled.offer([Said("a")], lambda name, outcome: None)
    sampled.close(120)
    assert counts.judged == 250
