"""From a model's folder to a steered answer by the example's script, with a real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.bundle import load_bundle
from tests.engine.engines import environment
from tests.engine_lock import one_engine
from tests.examples.ports import free_port
from tests.families.requests import words, write_requests
from tests.models import tiny_omni
from tests.needs import ROOT
from tests.server.fixtures.live import CACHE

pytestmark = pytest.mark.engine
SCRIPT = ROOT / "examples" / "own_bundle.sh"
# What a reader would add for a small machine, to the file that `policy init` writes.
SMALL = """
  max_model_len: 2048
  max_num_seqs: 8
  enforce_eager: true
  kv_cache_memory_bytes: 134217728
  limit_mm_per_prompt: {image: 0, video: 0, audio: 0}
  distributed_executor_backend: uni
"""
ENGINE = {"distributed_executor_backend": "uni", "kv_cache_memory_bytes": 128 << 20}
BUILD = ("--budget", "0.1", "--no-report", "--engine-args", json.dumps(ENGINE))


@dataclass(frozen=True)
class Shown:
    """What the script has printed, by heading, and the folder that it has filled."""

    parts: dict[str, str]
    folder: Path

    def report(self, heading: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.parts[heading].partition("report: ")[2])
        return found

    def answer(self, heading: str) -> str:
        return self.parts[heading].partition("answer: ")[2].partition("\n")[0]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("own") / "my"
    model = tiny_omni.ensure(CACHE)
    data = write_requests(folder.parent / "data", ())
    variables = environment(
        {
            "VENV": sys.prefix,
            "STRATEGY": "static",
            "PORT": str(free_port()),
            "QUESTION": words(7, harmful=True),
            # No processes of the engine's own, each of which would import vLLM once more.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
    )
    start: list[str | Path] = [
        sys.executable,
        "-m",
        "refusal_server",
        "policy",
        "init",
        folder,
        "--model",
        model,
    ]
    subprocess.run(start, env=variables, check=True, capture_output=True)
    with (folder / "server.yaml").open("a") as settings:
        settings.write(SMALL)
    command: list[str | Path] = [SCRIPT, model, folder, "--data", data, *BUILD]
    with one_engine():
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=600, check=False
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    sections = (part.partition("\n") for part in done.stdout.split("\n== ")[1:])
    yield Shown({heading: text for heading, _, text in sections}, folder)


def test_the_bundle_is_built_and_in_the_policy(shown: Shown) -> None:
    bundle = load_bundle(shown.folder / "bundles" / "static")
    assert bundle.manifest.canary is not None
    assert bundle.digest in shown.parts["the bundle"]
    assert "policies: 2; bundles: 1; default: off" in shown.parts["a policy that callers may name"]


def test_the_answer_is_steered_and_only_where_asked(shown: Shown) -> None:
    off = shown.report("the model's own answer")
    assert (off["mode"], off["rows_verified"]) == ("off", 0)
    steered = shown.report("the steered answer, with its report")
    rule = (steered["policy"], steered["strategy"], steered["mode"])
    assert rule == ("main", "static", "enforce")
    assert steered["coefficient"] > 0 and steered["rows_verified"] > 0
    own, other = (shown.answer(h) for h in list(shown.parts)[-2:])
    assert own and own != other
