"""The chart, rendered by Helm itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.promtool import ROOT

CHART = ROOT / "deploy" / "helm" / "refusal-server"
RELEASE, NAMESPACE = "demo", "apps"
Manifest = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What ``helm`` says; the caller judges the exit status."""
    program = shutil.which("helm", path=str(Path(sys.executable).parent))
    assert program is not None, "helm is not installed; `make install-dev` brings it"
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@cache
def rendered(*values: str | Path) -> tuple[Manifest, ...]:
    """Manifests of a release with these value files or ``--set`` assignments."""
    done = _template(values)
    assert done.returncode == 0, done.stderr
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


def refusal(*values: str | Path) -> str:
    """What Helm says to values that it must not render."""
    done = _template(values)
    assert done.returncode != 0, done.stdout
    return done.stderr


def _template(values: tuple[str | Path, ...]) -> subprocess.CompletedProcess[str]:
    options: list[str | Path] = []
    for value in values:
        options += ["--values" if isinstance(value, Path) else "--set", value]
    return helm("template", RELEASE, CHART, "--namespace", NAMESPACE, *options)


def of_kind(manifests: tuple[Manifest, ...], kind: str, component: str = "") -> Manifest:
    """The one manifest of a kind, and of a component where the kind has several."""
    found = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and manifest["metadata"]["name"].endswith(component)
    ]
    (only,) = found if component else found[:1] or found
    return only
