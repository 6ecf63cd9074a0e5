"""Engine runs that many tests share: each is started once a session, when first asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine import calls
from tests.engine.bundles import everyday_bundles, limited_bundles
from tests.engine.engines import one_after_the_other, play_side_by_side
from tests.engine.spec import Outcome, Run
from tests.models import tiny_omni

if TYPE_CHECKING:
    from tests.engine.reference import Reference

V2 = {"STEERING_RIG_V2": "1", "STEERING_RIG_ASYNC": "1"}
# As servers start them.
OWN_PROCESSES = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
SMALL = {"max_num_batched_tokens": 64}
EVERY_DAY = ("static", "omni", "mars", "ball", "ras", "gated", "shallow")


@dataclass(frozen=True)
class EngineFixture:
    """The model and the bundles that all runs play with."""

    model: Path
    bundles: dict[str, Path]

    def run(
        self,
        scenarios: Any,
        *,
        start: tuple[str, ...] = EVERY_DAY,
        known: tuple[str, ...] = (),
        **settings: Any,
    ) -> Run:
        """A run on this engine_fixture with the bundles ``start`` loaded."""
        return Run(
            str(self.model),
            scenarios,
            {name: str(self.bundles[name]) for name in start},
            {name: str(self.bundles[name]) for name in known},
            **settings,
        )


@pytest.fixture(scope="session")
def engine_fixture(tmp_path_factory: pytest.TempPathFactory) -> EngineFixture:
    """A tiny omni model in float32 and random bundles for it."""
    folder = tmp_path_factory.mktemp("bundles")
    model = tiny_omni.ensure(cache_folder())
    return EngineFixture(model, everyday_bundles(folder, model) | limited_bundles(folder, model))


@pytest.fixture(scope="session")
def reference(engine_fixture: EngineFixture) -> Reference:
    """The same model and bundles in HF transformers."""
    # That module needs this one.
    from tests.engine.reference import Reference

    return Reference(engine_fixture)


def cache_folder() -> Path:
    """Where generated test models are kept between runs."""
    default = Path.home() / ".cache" / "refusal-steering"
    return Path(os.environ.get("REFUSAL_STEERING_CACHE", default)) / "tests"


# Runs that are played side by side when one of them is asked for: starts take longest. The first
# of a group keeps one of two cores busy for about as long as the others the second.
GROUPS = (
    ("v2", "v2-stock", "unattached", "stock"),
    ("eager", "v2-preempted"),
    ("compiled", "stock-compiled"),
    ("preempted", "captured", "chunked"),
)


def _group(name: str) -> tuple[str, ...]:
    return next((group for group in GROUPS if name in group), (name,))


class Outcomes:
    """Outcomes of :func:`_runs` by name, each played once: when it or its group is asked for."""

    def __init__(self, runs: dict[str, Run], folder: Path):
        self._runs, self._folder = runs, folder
        self._known: dict[str, Outcome] = {}

    def __call__(self, name: str) -> Outcome:
        """The outcome of one run."""
        if name not in self._known:
            names = (name,) if one_after_the_other() else _group(name)
            folders = [self._folder / one for one in names]
            played = play_side_by_side([self._runs[one] for one in names], folders)
            self._known |= dict(zip(names, played, strict=True))
        return self._known[name]


@pytest.fixture(scope="session")
def outcome(engine_fixture: EngineFixture, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Outcomes by name."""
    return Outcomes(_runs(engine_fixture), tmp_path_factory.mktemp("runs"))


def _runs(engine_fixture: EngineFixture) -> dict[str, Run]:
    eager = {"enforce_eager": True}
    tight = {**eager, "num_gpu_blocks_override": 20, "max_model_len": 512}
    whole = engine_fixture.run(
        (
            *calls.MIXED,
            *calls.CROWDED,
            *calls.CACHE,
            *calls.PEERS,
            *calls.CANARY,
            *calls.RELOAD,
            *calls.GATES,
            *calls.LATE_GATE,
        ),
        start=(*EVERY_DAY, "limited", "mismeasured"),
        known=("late", "late-gate", "foreign", "deeper"),
        engine=eager,
        environment=OWN_PROCESSES,
    )
    idle = replace(engine_fixture.run(calls.PLAIN), attach=False, bundles={})
    disabled = {"REFUSAL_STEERING_DISABLE": "1"}
    return {
        "eager": whole,
        "stock": replace(idle, engine=eager, environment=disabled),
        "unattached": replace(engine_fixture.run(calls.MIXED[:1], engine=eager), attach=False),
        "compiled": engine_fixture.run(calls.MIXED, engine={}),
        "stock-compiled": replace(idle, environment=disabled),
        "chunked": engine_fixture.run(calls.MIXED, engine={**eager, **SMALL}),
        "preempted": engine_fixture.run(calls.CROWDED, engine=tight),
        "v2": engine_fixture.run(
            (*calls.MIXED, *calls.CACHE, *calls.GATES), engine=eager, environment=V2
        ),
        "v2-stock": replace(idle, engine=eager, environment={**V2, **disabled}),
        "v2-preempted": engine_fixture.run(
            calls.CROWDED, engine=tight, environment=V2, graph_rows=2048
        ),
        "tensor-parallel": engine_fixture.run(
            calls.MIXED,
            engine={**eager, "tensor_parallel_size": 2},
            environment={**OWN_PROCESSES, "VLLM_CPU_OMP_THREADS_BIND": "0|1"},
        ),
        "captured": engine_fixture.run((*calls.MIXED, *calls.GATES), engine=eager, graph_rows=8192),
    }
