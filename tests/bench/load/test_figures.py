"""Ratios are taken within a round, costs are differences, and lost streams are counted."""

from __future__ import annotations

import pytest

from tests.bench.load.clients import BENCHED
from tests.bench.load.figures import STOCK, Cpu, Wave, bench_lines, cpu_lines, ratio, wave_lines
from tests.bench.load.servers import _words


def test_a_ratio_is_taken_within_its_round() -> None:
    slow = {STOCK: dict.fromkeys(BENCHED, 10.0), "off": dict.fromkeys(BENCHED, 9.0)}
    fast = {STOCK: dict.fromkeys(BENCHED, 40.0), "off": dict.fromkeys(BENCHED, 40.0)}
    lines = [*bench_lines([slow, fast, fast])]
    assert lines[2].startswith(f"| {STOCK} | 1.000 (1.000 to 1.000)")
    assert lines[3] == "| off |" + " 1.000 (0.900 to 1.000) |" * len(BENCHED)


def test_costs_are_what_is_more_than_stock() -> None:
    rounds = [{STOCK: Cpu(100.0, 10.0), "off": Cpu(180.0, 11.5)}]
    assert [*cpu_lines(rounds)][-1] == "| off | 180.0 | +80.0 | 11.5 | +1.5 |"


def test_a_lost_stream_is_said() -> None:
    first, *_ = wave_lines([Wave(500, 500, 800.0), Wave(500, 497, 801.0)])
    assert first == "2 waves of 500 streams at once: 3 lost."


def test_a_median_has_its_range() -> None:
    assert ratio([1.0, 3.0, 2.0]) == "2.000 (1.000 to 3.000)"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_num_seqs", 16, ["--max-num-seqs", "16"]),
        ("enforce_eager", True, ["--enforce-eager"]),
        ("enable_prefix_caching", False, ["--no-enable-prefix-caching"]),
        ("served_model_name", ["a", "b"], ["--served-model-name", "a", "b"]),
        ("limit_mm_per_prompt", {"image": 2}, ["--limit-mm-per-prompt", '{"image": 2}']),
    ],
)
def test_arguments_of_the_engine_are_those_of_stock(
    name: str, value: object, words: list[str]
) -> None:
    assert _words(name, value) == words
