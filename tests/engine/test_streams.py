"""Real layer classes of vLLM whose sources do not say where the stream is: right, or refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engine.engines import ROOT, environment

DEPTH = 3
pytestmark = pytest.mark.engine
RIGHT = {"HYV4": 1, "Kimi": 2, "Glm5Next": None, "MiniMaxM3": 1}
REFUSED = {
    "Glm5Next with several streams": r"of its outputs, its first output is off by",
    "DeepseekV4DecoderLayer": r"^DeepseekV4DecoderLayer does not carry one plain residual stream\.",
    "Qwen4ExpDecoderLayer": r"^Qwen4ExpDecoderLayer does not carry one plain residual stream\.",
    "RenamedDecoderLayer": r"stream, because it is a DeepseekV2DecoderLayer\.",
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was found by one rank."""
    (found,) = probed(tmp_path_factory.mktemp("alone"), 1, *RIGHT, *REFUSED)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What was found by each of two ranks under tensor parallelism."""
    return probed(tmp_path_factory.mktemp("both"), 2, "HYV4", "MiniMaxM3")


@pytest.mark.parametrize("model", RIGHT)
def test_a_stream_is_read_where_it_is(alone: dict[str, Any], model: str) -> None:
    assert alone[model] == {"residuals": [RIGHT[model]] * DEPTH}


@pytest.mark.parametrize("model", REFUSED)
def test_what_has_no_plain_stream_is_refused(alone: dict[str, Any], model: str) -> None:
    if "missing" in alone[model]:
        pytest.skip(f"a kernel of vLLM is missing: {model} needs a CPU with AVX-512")
    assert alone[model]["refusal"] == "UnsupportedModelError"
    assert re.search(REFUSED[model], alone[model]["words"])


def test_sums_that_are_left_to_the_next_layer_are_refused_on_every_rank(
    both: list[dict[str, Any]],
) -> None:
    for found in both:
        words = found["MiniMaxM3"]["words"]
        assert "its sum with output 1 is off by" in words
        assert "--tensor-parallel-size 1" in words


def test_whole_sums_are_right_on_every_rank(both: list[dict[str, Any]]) -> None:
    assert [found["HYV4"] for found in both] == [{"residuals": [1] * DEPTH}] * 2


def probed(folder: Path, ranks: int, *models: str) -> list[dict[str, Any]]:
    """The findings of every rank."""
    # The name of the shared memory that vLLM's ranks on a CPU meet in.
    settings = environment({"VLLM_DIST_IDENT": folder.name})
    targets = [folder / f"rank-{rank}.json" for rank in range(ranks)]
    command = [sys.executable, "-m", "tests.engine.stream_probe", str(folder / "rendezvous")]
    logs = [(folder / f"rank-{rank}.log").open("w+") for rank in range(ranks)]
    running = [
        subprocess.Popen(
            [*command, str(targets[rank]), str(rank), str(ranks), *models],
            cwd=ROOT,
            env=settings,
            stdout=logs[rank],
            stderr=subprocess.STDOUT,
        )
        for rank in range(ranks)
    ]
    try:
        for rank, process in enumerate(running):
            if process.wait(timeout=300):
                logs[rank].seek(0)
                raise AssertionError(logs[rank].read()[-8000:])
    finally:
        for process in running:
            process.kill()
    return [json.loads(target.read_text()) for target in targets]
