"""The latency benchmark compares like with like, and times nothing but what was asked for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import product
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI

from tests.bench.latency import ARMS, CONCURRENCY, LABELS, SHORTEST, TOKENS, Caller, prompts
from tests.bench.latency_table import BASELINE, Sample, rows, table

TTFT = {"a": 1.5, BASELINE: 1.0}
TPOT = {"a": 0.75, BASELINE: 1.0}
WAIT = 0.01


def samples(rounds: int = 3) -> Iterator[Sample]:
    """Arm ``a`` has its own ratio; machine and request are slower by other factors each time."""
    for at_once, number, request, arm in product((1, 8), range(rounds), range(4), TTFT):
        slow = (1 + number) * (1 + request) * at_once / 100
        label = LABELS[request % 2]
        yield Sample(at_once, number, request, label, arm, slow * TTFT[arm], slow * TPOT[arm])


def test_a_ratio_does_not_depend_on_the_speed_of_round_request_and_load() -> None:
    found = rows([*samples()], [BASELINE, "a"])
    assert [(row["concurrency"], row["label"], row["arm"]) for row in found] == [
        *product((1, 8), LABELS, (BASELINE, "a"))
    ]
    for row in found:
        for measure, ratios in (("ttft", TTFT), ("tpot", TPOT)):
            expected = pytest.approx(ratios[row["arm"]])
            assert [*row[measure]["ratio"].values()] == [expected] * 3


def test_the_range_is_over_rounds_and_each_round_is_a_median() -> None:
    def sample(number: int, request: int, arm: str, ttft: float) -> Sample:
        return Sample(1, number, request, "harmful", arm, ttft, 1.0)

    times = [(1.0, 2.0, 90.0), (3.0, 4.0, 5.0), (0.1, 1.0, 1.1)]
    given = [
        sample(number, request, arm, value if arm == "a" else 1.0)
        for number, values in enumerate(times)
        for request, value in enumerate(values)
        for arm in ("a", BASELINE)
    ]
    row = rows(given, ["a"])[0]
    assert row["ttft"]["ratio"] == {"median": 2.0, "min": 1.0, "max": 4.0}
    assert row["ttft"]["milliseconds"] == 2000.0


def test_an_arm_is_not_compared_without_its_baseline() -> None:
    with pytest.raises(KeyError):
        rows([one for one in samples() if one.arm != BASELINE or one.round], ["a"])


def test_the_table_has_a_line_for_every_row() -> None:
    report = {"tokens": 24, "requests": 4, "rounds": 3, "rows": rows([*samples()], TTFT)}
    lines = table(report).splitlines()
    assert [line for line in lines if "at once" in line] == [
        line for line in lines if line.startswith(("1 at once, ", "8 at once, "))
    ]
    steered = [line.split() for line in lines if line.startswith("a ")]
    assert len(steered) == 4
    assert {(line[2], line[7]) for line in steered} == {("1.500", "0.750")}
    assert {(line[3], line[5]) for line in steered} == {("(1.500", "1.500)")}


def test_requests_are_different_and_of_both_labels_in_turn() -> None:
    found = prompts()
    assert [label for label, _ in found] == [*LABELS] * (len(found) // 2)
    assert len({text for _, text in found}) == len(found) == max(CONCURRENCY)


class Script:
    """Streams ``tokens`` tokens after two waits, under ``policy`` or the one that is asked for.

    ``seen`` keeps the bodies, ``busy`` how many requests were open as each began.
    """

    def __init__(self, policy: str | None = None, tokens: int = TOKENS, text: str = "x"):
        self.policy = policy
        self.tokens = tokens
        self.text = text
        self.seen: list[dict[str, Any]] = []
        self.busy: list[int] = []
        self.open = 0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.seen.append(body)
        self.open += 1
        self.busy.append(self.open)
        policy = self.policy or body["steering"]["policy"]
        return httpx2.Response(
            200,
            headers={"content-type": "text/event-stream", "x-steering": f"policy={policy};rows=1"},
            content=self.events(),
        )

    async def events(self) -> AsyncIterator[bytes]:
        for number in range(self.tokens):
            if number < 2:
                await asyncio.sleep(WAIT)
            delta = {"role": "assistant", "content": self.text}
            ended = "length" if number == self.tokens - 1 else None
            yield self.event([{"index": 0, "delta": delta, "finish_reason": ended}])
        usage = {"prompt_tokens": 1, "completion_tokens": self.tokens, "total_tokens": 1}
        self.open -= 1
        yield self.event([], usage=usage) + b"data: [DONE]\n\n"

    @staticmethod
    def event(choices: list[Any], **fields: Any) -> bytes:
        head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        return b"data: " + json.dumps({**head, "choices": choices, **fields}).encode() + b"\n\n"


def caller(script: Script) -> Caller:
    transport = httpx2.MockTransport(script)
    client = httpx2.AsyncClient(transport=transport)
    return Caller(AsyncOpenAI(base_url="http://x/v1", api_key="k", http_client=client), "m")


@pytest.mark.parametrize("concurrency", CONCURRENCY)
def test_every_arm_gets_the_same_requests_and_no_cached_prefix(concurrency: int) -> None:
    script = Script()

    async def play() -> list[Sample]:
        arms = [*reversed(ARMS)]
        return [sample async for sample in caller(script).play(concurrency, 2, arms)]

    played = asyncio.run(play())
    expected = prompts()
    assert Counter((one.arm, one.request) for one in played) == Counter(
        product(ARMS, range(len(expected)))
    )
    assert all(one.label == expected[one.request][0] for one in played)
    asked = Counter((b["steering"]["policy"], b["messages"][0]["content"]) for b in script.seen)
    texts = [text for _, text in expected]
    assert asked == Counter((ARMS[arm], text) for arm, text in product(ARMS, texts))
    assert len({body["cache_salt"] for body in script.seen}) == len(script.seen)
    assert max(script.busy) == concurrency
    for one in played:
        assert one.ttft >= WAIT and one.tpot >= WAIT / (TOKENS - 1)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script(policy="mars"), "policy 'off' was asked"),
        (Script(tokens=SHORTEST - 1), f"{SHORTEST - 1} tokens"),
        (Script(text=""), "no text"),
    ],
)
def test_an_answer_that_was_not_asked_for_is_not_timed(script: Script, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        asyncio.run(caller(script).ask("hello", "off"))
