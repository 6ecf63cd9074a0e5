"""Policy files and bundles that cannot be used, and policies that change under load: 53 to 55."""

from __future__ import annotations

import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.attack.rows.row import Row, Target, answered
from tests.attack.rows.servers import POLICY, start_that_fails
from tests.server.fixtures.states import eventually

_RELOADED = "steering_policy_last_reload_successful"


def _version(target: Target) -> str:
    return str(httpx2.get(f"{target.ops}/version", timeout=60).json()["policy_version"])


def _changed(target: Target, before: str) -> bool:
    return _version(target) != before


def _ceiling(value: float) -> dict[str, Any]:
    main = {**POLICY["policies"]["main"], "ceiling": value}
    return {**POLICY, "policies": {**POLICY["policies"], "main": main}}


def _bundles(target: Target) -> str:
    source = Path(POLICY["policies"]["main"]["bundle"])
    lines = []
    for damage in ("missing", "edited", "cut", "pickle"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            bundle = folder / ("vectors.pt" if damage == "pickle" else "bundle")
            if damage == "pickle":
                bundle.write_bytes(b"\x80\x04K\x01.")
            elif damage != "missing":
                shutil.copytree(source, bundle)
                (weights,) = bundle.glob("weights-*")
                raw = weights.read_bytes()
                weights.write_bytes(raw[:-8] if damage == "cut" else raw[:-1] + b"\x7f")
            rules = {"a": {"mode": "enforce", "bundle": str(bundle)}}
            (folder / "policy.yaml").write_text(yaml.safe_dump({"default": "a", "policies": rules}))
            lines.append(start_that_fails(target, "--policy-file", str(folder / "policy.yaml")))
    assert all("bundle" in line for line in lines), lines
    return f"exit code 2 and one line ({len(lines)})"


def _files(target: Target) -> str:
    path = target.server.folder / "policy.yaml"
    original, version = path.read_text(), _version(target)
    broken = ("default: main\npolic", "", "[]", yaml.safe_dump(_ceiling(-1.0)), None)
    try:
        for text in broken:
            path.unlink(missing_ok=True) if text is None else path.write_text(text)
            eventually(lambda: target.metric(_RELOADED) == 0)
            assert _version(target) == version
            assert f"version={version}" in target.server.chat().headers["x-steering"]
            path.write_text(original)
            eventually(lambda: target.metric(_RELOADED) == 1)
    finally:
        path.write_text(original)
    return f"the last good one stays, the gauge is 0, then 1 again ({len(broken)} files)"


def _flips(target: Target) -> str:
    path = target.server.folder / "policy.yaml"
    original, first = path.read_text(), _version(target)
    stop, answers = threading.Event(), list[httpx2.Response]()

    def load() -> None:
        while not stop.is_set():
            answers.append(target.server.chat(max_tokens=2, steering={"report": True}))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(load) for _ in range(4)]
        try:
            for step in range(4):
                before = _version(target)
                path.write_text(yaml.safe_dump(_ceiling(2.5 + step / 10)))
                eventually(partial(_changed, target, before))
            path.write_text(original)
            eventually(lambda: _version(target) == first)
        finally:
            stop.set()
            path.write_text(original)
        for one in asking:
            one.result()
    seen = answered(answers)
    for answer in answers:
        assert f"version={answer.json()['steering']['version']}" in answer.headers["x-steering"]
    return f"{seen}, each with the version that it used"


ROWS = (
    Row((53,), "bundle missing, edited, cut, a pickle", "no start, one line", _bundles),
    Row((54,), "policy file deleted, half written, invalid", "the last good one stays", _files),
    Row((55,), "policy changes under load", "no 5xx, each answer names its version", _flips),
)
