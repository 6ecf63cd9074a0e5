"""Create the virtual environment and install the project into it, once.

    python3 deploy/local/environment.py --extras cpu,demo,dev [--venv .venv] [--unlocked]

Needs nothing but a Python from 3.11 to 3.13 and a package index that pip can reach. Packages are
those of the engine's lock file, and pip compares their sha256; the CPU build of torch alone is
taken by its version. A second run with nothing to do ends at once: what was installed is recorded
in the environment, under a digest of the project's dependencies and of these scripts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from console import SetupError, exclusive, probe, run, say
from locks import lock_file
from packages import install_cpu_torch, install_locked, install_ranges, python

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SUPPORTED = ((3, 11), (3, 13))
ENGINES = ("cpu", "gpu")
STAMP = "set-up.json"
# Those that decide what an environment holds.
SCRIPTS = (
    "environment.py",
    "packages.py",
    "locks.py",
    "cpu_media.py",
    "torchvision_shim.py",
    "check.py",
)


def main() -> int:
    """Set the environment up; return a process exit status."""
    _use_supported_python()
    arguments = _parse()
    venv = arguments.venv.absolute()
    try:
        extras = _checked(arguments.extras)
        with exclusive(venv.with_name(f"{venv.name}.lock"), "environment"):
            set_up(venv, extras, locked=not arguments.unlocked)
    except SetupError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run this again to go on")
        return 130
    return 0


def set_up(venv: Path, extras: set[str], *, locked: bool = True) -> None:
    """Bring the environment to a state with these extras, unless it is there already."""
    installed = _installed(venv)
    engine = next(name for name in ENGINES if name in extras)
    if other := _recorded(venv) & (set(ENGINES) - {engine}):
        raise SetupError(
            f"{venv} was set up with the {'/'.join(other)} engine, expected {engine}; two engines "
            "do not share an environment. Run `make clean-all`, or give another one: VENV=.venv2."
        )
    if extras <= installed:
        say(f"environment: up to date ({venv.name}: {', '.join(sorted(installed))})")
        return
    extras |= _recorded(venv)
    _create(venv)
    if engine == "cpu":
        install_cpu_torch(venv)
    if locked:
        install_locked(venv, engine, extras)
    else:
        install_ranges(venv, extras)
    if engine == "cpu":
        _run_script(venv, "cpu_media.py")
    _run_script(venv, "check.py", engine)
    stamp = {"key": content_key(), "extras": sorted(extras)}
    (venv / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def content_key() -> str:
    """Digest of what decides the environment's content: dependencies and these scripts."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hatch = project.get("tool", {}).get("hatch")
    relevant = [project["build-system"], project["project"], hatch]
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode())
    for path in (*map(HERE.joinpath, SCRIPTS), *map(lock_file, ENGINES)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--extras", default="cpu", help="comma-separated, with one of cpu and gpu")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--unlocked", action="store_true", help="ignore the lock file")
    return parser.parse_args()


def _checked(text: str) -> set[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = set(project["optional-dependencies"])
    extras = {part.strip() for part in text.split(",") if part.strip()}
    if not extras <= known or len(extras & set(ENGINES)) != 1:
        raise SetupError(
            f"extras are {text!r}, expected exactly one of {' and '.join(ENGINES)} and any of "
            f"{', '.join(sorted(known - set(ENGINES)))}; with make, set EXTRA=cpu or EXTRA=gpu."
        )
    return extras


def _use_supported_python() -> None:
    """Go on under a supported interpreter, if the one that runs this is not."""
    low, high = SUPPORTED
    if low <= sys.version_info[:2] <= high:
        return
    for minor in range(low[1], high[1] + 1):
        found = shutil.which(f"python3.{minor}")
        # A version manager may put names on the PATH behind which there is no interpreter.
        if found and probe([found, "--version"]) is None:
            os.execv(found, [found, *sys.argv])
    say(
        f"error: this is Python {sys.version_info[0]}.{sys.version_info[1]}, expected 3.{low[1]} "
        f"to 3.{high[1]}, and no such python3.x is on the PATH. Install one (on Debian or Ubuntu: "
        "python3.11 and python3.11-venv), or name it: `make PYTHON=/path/to/python3.11 ...`."
    )
    sys.exit(1)


def _recorded(venv: Path) -> set[str]:
    """The extras of the last complete set-up, of whatever content."""
    return set(_stamp(venv).get("extras", ()))


def _installed(venv: Path) -> set[str]:
    """The extras of the last complete set-up, if nothing that decides it has changed since."""
    if not python(venv).exists() or _stamp(venv).get("key") != content_key():
        return set()
    return _recorded(venv)


def _stamp(venv: Path) -> dict[str, Any]:
    path = venv / STAMP
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def _create(venv: Path) -> None:
    if probe([python(venv), "-m", "pip", "--version"]) is None:
        return
    run(
        f"environment: creating {venv.name} with Python {sys.version.split()[0]}",
        [sys.executable, "-m", "venv", "--clear", venv],
        hint="install Python's venv module (on Debian or Ubuntu: apt-get install python3-venv).",
    )


def _run_script(venv: Path, name: str, *arguments: str) -> None:
    if subprocess.run([python(venv), HERE / name, *arguments], check=False).returncode:
        raise SetupError(f"deploy/local/{name} did not succeed; it says above what to do.")


if __name__ == "__main__":
    sys.exit(main())
