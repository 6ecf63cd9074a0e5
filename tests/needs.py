"""What some tests need that the environment of ``make install-dev`` does not bring.

Where the thing is missing the test is skipped, and the run ends with one line that names the thing
and the way to it. ``REFUSAL_TESTS_REQUIRE`` holds the names of things that must be there, separated
by spaces: a test that misses one of these fails. Continuous integration sets it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

REQUIRE = "REFUSAL_TESTS_REQUIRE"
# Whether long tests are run on a CPU that is slow in the model's precision.
LONG = "REFUSAL_TESTS_LONG"
ROOT = Path(__file__).resolve().parents[1]
# Beside the checkout, never in it: harmful requests and answers of others.
SHARED = ROOT.parent / "shared" / "data"
CHROMIUM = Path("/usr/bin/chromium")


@dataclass(frozen=True, slots=True)
class Need:
    """A thing by name, whether it is there, and how to get it."""

    name: str
    found: Callable[[], bool]
    way: str

    @property
    def missing(self) -> str:
        """What the run says at its end about tests that were not run."""
        return f"{self.name} is missing: {self.way}"


def _program(name: str, package: str) -> Need:
    way = f"install Debian's package {package} (deploy/local/test_programs.sh does)"
    return Need(name, lambda: shutil.which(name) is not None, way)


@cache
def demo_dtype() -> str:
    """The precision in which `make serve` serves the demo model on this machine."""
    script = ROOT / "deploy" / "local" / "demo_dtype.py"
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    return told.stdout.strip()


NEEDS = {
    need.name: need
    for need in (
        _program("prometheus", "prometheus"),
        _program("promtool", "prometheus"),
        _program("amtool", "prometheus-alertmanager"),
        _program("espeak-ng", "espeak-ng"),
        _program("redis-server", "redis-server"),
        Need(
            "chromium",
            CHROMIUM.exists,
            "install Debian's package chromium (deploy/local/test_programs.sh does)",
        ),
        Need(
            "shared-data",
            SHARED.is_dir,
            "put AdvBench-derived requests and XSTest's labelled answers into ../shared/data",
        ),
        Need(
            "nemoguardrails",
            lambda: find_spec("nemoguardrails") is not None,
            "install it into the environment with pip; nothing but one test needs it",
        ),
        Need(
            "vllm-router",
            lambda: find_spec("vllm_router") is not None,
            "install vllm-router into the environment with pip; nothing but one test needs it",
        ),
        Need(
            "node-openai",
            lambda: (
                shutil.which("node") is not None
                and (ROOT / "examples" / "javascript" / "node_modules" / "openai").is_dir()
            ),
            "install Node.js, and run `npm install` in examples/javascript",
        ),
        Need(
            "langchain-openai",
            lambda: find_spec("langchain_openai") is not None,
            "install it into the environment with pip; nothing but one example needs it",
        ),
        Need(
            "litellm",
            lambda: litellm() is not None,
            "install litellm[proxy] with pip into an environment of its own, and name its program "
            "litellm in REFUSAL_TESTS_LITELLM; nothing but one example needs it",
        ),
        Need(
            "guidellm",
            lambda: bool(os.environ.get("GUIDELLM") or shutil.which("guidellm")),
            "install it into an environment of its own, and name its program in GUIDELLM",
        ),
        Need(
            "fast-cpu",
            lambda: bool(os.environ.get(LONG)) or demo_dtype() == "auto",
            f"without AVX-512 a test of minutes takes a quarter of an hour; {LONG}=yes runs it",
        ),
        Need(
            "demo-model", lambda: (demo_model() / "config.json").is_file(), "run `make demo-model`"
        ),
    )
}


def litellm() -> str | None:
    """The program that starts LiteLLM's proxy, if there is one."""
    return shutil.which(os.environ.get("REFUSAL_TESTS_LITELLM") or "litellm")


def demo_model() -> Path:
    """Where the demo model without towers is, if it is."""
    cache = Path.home() / ".cache" / "refusal-steering"
    cache = Path(os.environ.get("REFUSAL_STEERING_CACHE") or cache)
    default = cache / "models" / "qwen2.5-coder-0.5b-instruct"
    return Path(os.environ.get("REFUSAL_STEERING_DEMO_MODEL") or default)


def need(name: str) -> None:
    """Go on if the thing is there; else skip the test, or fail it where the thing is required."""
    wanted = NEEDS[name]
    if wanted.found():
        return
    if required(name):
        pytest.fail(f"{wanted.missing} ({REQUIRE} names it)", pytrace=False)
    pytest.skip(wanted.missing)


def required(name: str) -> bool:
    """Whether this run must have the thing; a name that nobody knows is an error."""
    names = set(os.environ.get(REQUIRE, "").split())
    if unknown := names - NEEDS.keys():
        raise pytest.UsageError(
            f"{REQUIRE} names {', '.join(sorted(unknown))}, expected some of {', '.join(NEEDS)}"
        )
    return name in names
