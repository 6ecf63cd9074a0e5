"""One family from its checkpoint to a steered answer: build, serve, ask, and note what held.

The tools and the server run as users run them, by their command lines. Nothing is asserted here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from refusal_steering.bundle import load_bundle
from tests.engine.engines import ONE_PROCESS, ROOT, environment
from tests.engine_lock import one_engine
from tests.families.asking import ask_alone, ask_together, every_request
from tests.families.checkpoint import write_checkpoint
from tests.families.family import TinyFamily
from tests.families.findings import Findings, steered_well, unequal
from tests.families.reference import worst_row
from tests.families.requests import write_requests
from tests.server.fixtures import live

_SMALL = {
    "kv_cache_memory_bytes": 64 << 20,
    "max_num_seqs": 16,
    "skip_mm_profiling": True,
    "distributed_executor_backend": "uni",
}
_BUILD_SECONDS = 900
STRATEGIES = ("static", "omnisteer", "promptgate", "mars", "ras")
_READING = {"dtype": "float32", "max_model_len": 4096}
_LEFT_OUT = re.compile(r"^(\w+) is left out: (.*)$", re.MULTILINE)


def try_family(family: TinyFamily, folder: Path) -> Findings:
    """Build and serve the family's tiny checkpoint in ``folder``, and say what held."""
    model = write_checkpoint(family, folder / "model")
    data = write_requests(folder / "data", family.media)
    config = folder / "server.yaml"
    config.write_text(yaml.safe_dump(_server(family, model)))
    try:
        built = _build(folder, model, data)
    except subprocess.TimeoutExpired as late:
        return Findings(
            family.name, failure=f"build had not ended after {late.timeout:.0f} seconds"
        )
    bundles = {path.parent.name: load_bundle(path.parent) for path in _manifests(folder)}
    found = Findings(family.name, bundles=tuple(bundles))
    found = replace(found, left_out=dict(_LEFT_OUT.findall(built.stderr)))
    if not bundles:
        return replace(found, failure=_last_line(built.stderr))
    layers = next(iter(bundles.values())).manifest.model.num_layers
    found = replace(found, layers=layers)
    try:
        error = worst_row(family, model, folder / "out" / "work", data)
        found = replace(found, row_error=error)
        return _served(family, folder, found)
    # Whatever fails, the others shall be tried.
    except (AssertionError, RuntimeError, ValueError) as failed:
        return replace(found, failure=_last_line(str(failed)))


def _served(family: TinyFamily, folder: Path, found: Findings) -> Findings:
    rules = {name: {"mode": "enforce", "bundle": f"out/{name}"} for name in found.bundles}
    policies: dict[str, Any] = {
        "off": {"mode": "off", "selectable": True},
        **{name: {**rule, "selectable": True} for name, rule in rules.items()},
    }
    policy = {"default": "off", "policies": policies}
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
    asked = every_request(family.media, found.bundles)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ONE_PROCESS.items():
            patch.setenv(name, value)
        with live.launched(folder, "--config", str(folder / "server.yaml")) as (url, _):
            alone, together = ask_alone(url, asked), ask_together(url, asked)
    proven, moved = steered_well(alone, found.bundles, media=bool(family.media))
    return replace(found, served=True, proven=proven, moved=moved, unequal=unequal(alone, together))


def _server(family: TinyFamily, model: Path) -> Mapping[str, Any]:
    media = {"limit_mm_per_prompt": dict.fromkeys(family.media, 2)} if family.media else {}
    return {
        "server": {"port": 0, "policy_file": "policy.yaml"},
        "engine": {
            "model": str(model),
            "enforce_eager": True,
            # A mixed batch computes every row anew.
            "enable_prefix_caching": False,
            **_READING,
            **_SMALL,
            **media,
            **family.engine,
        },
    }


def _build(folder: Path, model: Path, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "refusal_steering.tools.cli", "build"]
    command += ["--model", str(model), "--served-by", str(folder / "server.yaml")]
    command += ["--data", str(data), "-o", str(folder / "out"), "--budget", "0.1", "--no-report"]
    # A gate reads no layer behind the first steered one. With so few requests it is taught a tenth
    # of our texts, and the dose that makes most refusals moves some random models too little.
    command += ["--layers", "0,1", "--rows", "20", "--gate-budget", "0.1", "--gate-dose", "0.5"]
    command += ["--engine-args", json.dumps(_SMALL)]
    with one_engine():
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(ONE_PROCESS),
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
    (folder / "build.log").write_text(done.stdout + done.stderr)
    return done


def _manifests(folder: Path) -> list[Path]:
    return sorted((folder / "out").glob("*/manifest.json"))


def _last_line(text: str) -> str:
    """The last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "nothing was said")
