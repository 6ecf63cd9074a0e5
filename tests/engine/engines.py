"""Plays runs in processes of their own; who starts an engine waits until the others are done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import torch

from tests.engine.spec import Outcome, Run
from tests.engine_lock import one_engine

ROOT = Path(__file__).resolve().parents[2]
_LIMIT_SECONDS = 900
_BIND = "VLLM_CPU_OMP_THREADS_BIND"
# The one worker of an engine without tensor parallelism has no process of its own, and an engine
# of ``vllm.LLM`` neither: each would import vLLM once more.
ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def play(run: Run, folder: Path) -> Outcome:
    """Start the engine that ``run`` describes, play it, and read the outcome."""
    with one_engine():
        return _play(run, folder)


def one_after_the_other() -> bool:
    """Whether runs cannot be played side by side.

    There is one core only, ``VLLM_CPU_OMP_THREADS_BIND`` says which to use, or they would share a
    GPU, whose memory vLLM measures.
    """
    return len(os.sched_getaffinity(0)) == 1 or _BIND in os.environ or torch.cuda.is_available()


def play_side_by_side(runs: Sequence[Run], folders: Sequence[Path]) -> list[Outcome]:
    """Play runs at the same time, each on a core of its own; most of a run is a start on one core.

    Runs begin in their order, each as soon as a core is free.
    """
    if one_after_the_other():
        return [play(run, folder) for run, folder in zip(runs, folders, strict=True)]
    cores = sorted(os.sched_getaffinity(0))[: len(runs)]
    free: SimpleQueue[int] = SimpleQueue()
    for core in cores:
        free.put(core)

    def play_on_one(run: Run, folder: Path) -> Outcome:
        core = free.get()
        try:
            bound = {**run.environment, _BIND: str(core)}
            return _play(replace(run, environment=bound), folder)
        finally:
            free.put(core)

    with one_engine(), ThreadPoolExecutor(len(cores)) as pool:
        return list(pool.map(play_on_one, runs, folders))


def _play(run: Run, folder: Path) -> Outcome:
    source, target, log = (folder / name for name in ("run.json", "outcome.json", "engine.log"))
    folder.mkdir(parents=True, exist_ok=True)
    source.write_text(json.dumps(run.to_json()))
    with log.open("w") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "tests.engine.driver", str(source), str(target)],
            cwd=ROOT,
            env=environment({**ONE_PROCESS, **run.environment}),
            stdout=stream,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_SECONDS,
        )
    if done.returncode or not target.exists():
        tail = "\n".join(log.read_text().splitlines()[-60:])
        raise AssertionError(f"the engine process ended with {done.returncode}:\n{tail}")
    return Outcome.from_json(json.loads(target.read_text()))


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The environment of an engine process: offline, two threads, sources on the path."""
    paths = [str(ROOT), str(ROOT / "server"), str(ROOT / "steering")]
    if extra.get("STEERING_RIG_V2"):
        paths.insert(0, str(ROOT / "tests" / "engine" / "rig"))
    # A vLLM that is unpacked, not installed, is found by the path only.
    paths += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("REFUSAL_")}
    return {
        **inherited,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_NO_USAGE_STATS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        **extra,
    }
