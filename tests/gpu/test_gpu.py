"""The laws on a GPU, under compilation and captured graphs, with both of vLLM's runners."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from tests.engine.conftest import EngineFixture
from tests.gpu.case_engines import (
    DTYPES,
    CaseEngines,
    ReferenceAnswers,
    make_engine_fixture,
    reference_answers,
)
from tests.gpu.laws import LAWS, Law
from tests.gpu.machine import CUDA, Case, register_plugin

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no NVIDIA GPU is here (torch.cuda is not available)",
    ),
]
LIMIT_SECONDS = 3600
EnginesOf = Callable[[int, str], CaseEngines]


@pytest.fixture(scope="module")
def engine_fixture(tmp_path_factory: pytest.TempPathFactory) -> EngineFixture:
    folder = tmp_path_factory.mktemp("gpu")
    register_plugin(folder)
    return make_engine_fixture(folder)


@pytest.fixture(scope="module")
def answers(engine_fixture: EngineFixture) -> ReferenceAnswers:
    return reference_answers(engine_fixture)


@pytest.fixture(scope="module")
def engines(
    engine_fixture: EngineFixture,
    answers: ReferenceAnswers,
    tmp_path_factory: pytest.TempPathFactory,
) -> EnginesOf:
    @cache
    def of(runner: int, dtype: str) -> CaseEngines:
        return CaseEngines(
            Case(runner, dtype, CUDA), engine_fixture, answers, tmp_path_factory.mktemp("case")
        )

    return of


@pytest.mark.timeout(LIMIT_SECONDS)
@pytest.mark.parametrize("runner", [0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_holds(engines: EnginesOf, runner: int, dtype: str, law: Law) -> None:
    verdict = law(engines(runner, dtype))
    assert verdict.holds, verdict
