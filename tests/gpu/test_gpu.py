"""The laws on a GPU, under compilation and captured graphs, with both of vLLM's runners."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from tests.engine.conftest import Stage
from tests.engine.spec import Answer
from tests.gpu.laws import LAWS, Law
from tests.gpu.machine import CUDA, Case, register_plugin
from tests.gpu.theatre import TOLERANCES, Theatre, make_stage, reference_answers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no NVIDIA GPU is here (torch.cuda is not available)",
    ),
]
LIMIT_SECONDS = 3600
Theatres = Callable[[int, str], Theatre]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("gpu")
    register_plugin(folder)
    return make_stage(folder)


@pytest.fixture(scope="module")
def answers(stage: Stage) -> list[Answer]:
    return reference_answers(stage)


@pytest.fixture(scope="module")
def theatre(
    stage: Stage, answers: list[Answer], tmp_path_factory: pytest.TempPathFactory
) -> Theatres:
    @cache
    def of(runner: int, dtype: str) -> Theatre:
        return Theatre(Case(runner, dtype, CUDA), stage, answers, tmp_path_factory.mktemp("case"))

    return of


@pytest.mark.timeout(LIMIT_SECONDS)
@pytest.mark.parametrize("runner", [0, 1])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(theatre: Theatres, runner: int, dtype: str, law: Law) -> None:
    verdict = law(theatre(runner, dtype))
    assert verdict.holds, verdict
