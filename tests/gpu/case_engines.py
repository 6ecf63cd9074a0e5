"""The engines of one case, each played once, and the reference that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from refusal_steering.reference import Generated
from tests.engine import calls
from tests.engine.bundles import everyday_bundles
from tests.engine.calls import CALLS
from tests.engine.conftest import EngineFixture, cache_folder
from tests.engine.engines import play
from tests.engine.reference import Reference
from tests.engine.spec import Answer, Outcome, Run
from tests.gpu.agreement import EXACT, Tolerance, agree
from tests.gpu.machine import Case
from tests.models import tiny_omni

DTYPES = ("float32", "bfloat16")
_FLOAT32 = Tolerance(logprob=2e-3, coefficient=2e-3)
# A correct engine may be this many times as far off as transformers is in the same data type.
_FARTHER = 2.0
# 24 blocks of 32 tokens hold the longest call, with all media, and not five of the crowded
# scenario's.
_TIGHT = {"max_num_batched_tokens": 64, "num_gpu_blocks_override": 24, "max_model_len": 704}


@dataclass(frozen=True)
class ReferenceAnswers:
    """What transformers with hooks says to every call on a CPU, in two data types."""

    float32: list[Answer]
    bfloat16: list[Answer]

    def tolerance(self, dtype: str) -> Tolerance:
        """How far an engine in ``dtype`` may be off; in bfloat16 by what transformers shows."""
        if dtype == "float32":
            return _FLOAT32
        off = agree(self.bfloat16, self.float32, EXACT)
        return Tolerance(_FARTHER * off.logprob, _FARTHER * off.coefficient, flips=True)


class CaseEngines:
    """Plays an engine when a law first asks for it.

    ``stock`` is vLLM without the plugin, ``captured`` the form under test, ``eager`` and ``stock
    eager`` have neither compilation nor graphs, ``tight`` takes prompts in chunks and has too
    little cache for all.
    """

    def __init__(
        self, case: Case, engine_fixture: EngineFixture, reference: ReferenceAnswers, folder: Path
    ):
        self.case = case
        self.tolerance = reference.tolerance(case.dtype)
        self.reference: Sequence[Answer] = reference.float32
        self._folder = folder / case.name
        self._runs = _runs(case, engine_fixture)
        self._played: dict[str, Outcome | Exception] = {}

    def __getitem__(self, name: str) -> Outcome:
        if name not in self._played:
            try:
                self._played[name] = play(self._runs[name], self._folder / name)
            except Exception as error:
                # Laws that share a broken engine must not each start it again.
                self._played[name] = error
        outcome = self._played[name]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def log(self, name: str) -> str:
        """What the engine ``name`` wrote."""
        return (self._folder / name / "engine.log").read_text(errors="replace")


def _runs(case: Case, engine_fixture: EngineFixture) -> dict[str, Run]:
    engine, rows = case.captured
    everything = (*calls.MIXED, *calls.CROWDED)

    def run(scenarios: Any, engine: dict[str, Any], **settings: Any) -> Run:
        return engine_fixture.run(
            scenarios, engine=engine, environment=case.environment, **settings
        )

    disabled = {**case.environment, "REFUSAL_STEERING_DISABLE": "1"}
    stock = replace(run(calls.PLAIN, engine), attach=False, bundles={}, environment=disabled)
    return {
        "stock": stock,
        "captured": run(everything, engine, graph_rows=rows),
        "eager": run(calls.MIXED, case.eager),
        "stock eager": replace(stock, engine=case.eager),
        "tight": run(everything, {**engine, **_TIGHT}, graph_rows=rows),
    }


def make_engine_fixture(folder: Path) -> EngineFixture:
    """The tiny omni model and the everyday bundles of the engine tests."""
    model = tiny_omni.ensure(cache_folder())
    return EngineFixture(model, everyday_bundles(folder, model))


def reference_answers(engine_fixture: EngineFixture) -> ReferenceAnswers:
    """What the reference says to every call."""
    # Of so small a model many threads only wait for each other, minutes long.
    torch.set_num_threads(1)

    def answers(dtype: torch.dtype) -> list[Answer]:
        reference = Reference(engine_fixture, dtype)
        return [_as_answer(reference.play(call)) for call in CALLS]

    return ReferenceAnswers(answers(torch.float32), answers(torch.bfloat16))


def _as_answer(played: Generated) -> Answer:
    logprobs = [float(s[t]) for s, t in zip(played.logprobs, played.tokens, strict=True)]
    layers = sorted(played.coefficients)
    positions = sorted(played.coefficients[layers[0]]) if layers else []
    coefficients = [[played.coefficients[layer][at] for layer in layers] for at in positions]
    return Answer(played.tokens, logprobs, 0, 0, None, positions, coefficients, None)
