"""Build the wheel and the sdist, look into them, and use the wheel in an empty environment.

    .venv/bin/python deploy/local/release.py            # make release-check

The environment is made anew in ``build/release/venv`` from the lock file, which takes minutes. In
it the wheel alone is this project: it calibrates a bundle for a tiny model, and its server serves
that model and is asked and evaluated. The sdist must make the same wheel.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from pathlib import Path

from console import SetupError, run, say
from environment import ROOT, set_up
from packages import python

FOLDER = ROOT / "build" / "release"
PACKAGES = ("refusal_server", "refusal_steering")
IN_WHEEL = (
    *(f"{package}/py.typed" for package in PACKAGES),
    "refusal_server/console/static/console.js",
    "refusal_server/console/templates/console.html",
    "refusal_steering/prompts/data/long_texts.jsonl",
)
IN_SDIST = ("LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "pyproject.toml")
LICENCES = ("LICENSE", "NOTICE")
_READY = re.compile(r"^  URL +(http://\S+)/v1$", re.MULTILINE)
_START_SECONDS = 600
_SMALL = '{"max_model_len": 2048, "max_num_seqs": 16, "kv_cache_memory_bytes": 134217728}'


def main() -> int:
    """Check the release; return a process exit status."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    try:
        wheel, sdist = build(FOLDER / "dist")
        again = from_sdist(sdist, FOLDER / "again")
        problems = [*wheel_problems(wheel), *sdist_problems(sdist), *differences(wheel, again)]
        if problems:
            raise SetupError("; ".join(problems))
        say(f"release: {wheel.name} and {sdist.name} hold what they must")
        venv = FOLDER / "venv"
        set_up(venv, {"calibrate", "cpu", "evaluate"})
        install(venv, wheel)
        _use(venv, FOLDER / "site")
    except SetupError as error:
        say(f"error: {error}")
        return 1
    say(f"release: complete; the files are in {FOLDER / 'dist'}")
    return 0


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of the working tree."""
    run(
        "release: building",
        [sys.executable, "-m", "hatchling", "build", "-d", folder],
        hint="run `make install-dev`, and read the error above.",
    )
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def from_sdist(sdist: Path, folder: Path) -> Path:
    """The wheel that an installation from the sdist builds."""
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel")
    run(
        "release: building a wheel from the sdist",
        [*pip, "--no-deps", "--no-build-isolation", "-w", folder, sdist],
        hint="read the error above; a file that the build needs is missing in the sdist.",
    )
    return next(folder.glob("*.whl"))


def differences(wheel: Path, again: Path) -> list[str]:
    """Files of two wheels that are not the same in both."""
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        sums = [{info.filename: info.CRC for info in each.infolist()} for each in (one, other)]
    strange = {name for name in sums[0] | sums[1] if sums[0].get(name) != sums[1].get(name)}
    return [f"{name} differs in the wheel that the sdist makes" for name in sorted(strange)]


def wheel_problems(wheel: Path) -> list[str]:
    """What a wheel lacks, or has and must not have."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    wanted = (*IN_WHEEL, *(f"{info}/licenses/{name}" for name in LICENCES))
    tops = {name.partition("/")[0] for name in names} - {*PACKAGES, info}
    strange = [name for name in names if "__pycache__" in name or "/tests/" in name]
    return [
        *(f"{wheel.name} lacks {name}" for name in wanted if name not in names),
        *(f"{wheel.name} has {name}" for name in sorted({*tops, *strange})),
    ]


def sdist_problems(sdist: Path) -> list[str]:
    """What an sdist lacks."""
    top = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        names = set(archive.getnames())
    return [f"{sdist.name} lacks {name}" for name in IN_SDIST if f"{top}/{name}" not in names]


def install(venv: Path, wheel: Path) -> None:
    """Put the wheel in the place of whatever the environment has of this project."""
    pip: list[str | Path] = [
        python(venv),
        *("-m", "pip", "--quiet", "--disable-pip-version-check"),
    ]
    run(
        f"release: installing {wheel.name}",
        [*pip, "install", "--no-deps", "--force-reinstall", wheel],
        hint="read pip's error above.",
    )


def _use(venv: Path, site: Path) -> None:
    """Make a folder to start with; calibrate, serve, ask and evaluate a tiny model by it."""
    model = subprocess.run(
        [sys.executable, "-c", _TINY], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    server, steering = venv / "bin" / "refusal-server", venv / "bin" / "refusal-steering"
    hint = "read the error above; the wheel does not do what the sources do."
    run("release: policy init", [server, "policy", "init", site, "--model", model], hint=hint)
    policy = site / "policy.yaml"
    build: list[str | Path] = [steering, "build", "--model", model, "--no-report"]
    build += ["--served-by", site / "server.yaml", "--engine-args", _SMALL, "-o", site / "built"]
    build += ["--data", _told_apart(site), "--strategy", "static"]
    run("release: building a bundle", build, hint=hint)
    named = "  main: {mode: enforce, bundle: built/static, selectable: true}\n"
    policy.write_text(policy.read_text() + named)
    run("release: policy check", [server, "policy", "check", policy], hint=hint)
    options = ["--port", "0", "--enforce-eager", "--max-model-len", "2048"]
    options += ["--max-num-seqs", "2", "--kv-cache-memory-bytes", str(128 * 2**20)]
    log = site / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [server, "--config", site / "server.yaml", *options],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=site,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        url = _ready(process, log)
        with urllib.request.urlopen(f"{url}/v1/models", timeout=60) as answer:
            say(f"release: served, {len(answer.read())} bytes of models")
        evaluation = ["--suite", "contrast", "--limit", "4", "--policy", "main"]
        results: list[str | Path] = ["-o", site / "results.json", "--max-tokens", "4"]
        command: list[str | Path] = [steering, "evaluate", "--url", f"{url}/v1"]
        command += [*evaluation, *results]
        run("release: evaluating", command, hint=hint)
    finally:
        process.terminate()
        process.wait(120)


def _told_apart(site: Path) -> Path:
    """Requests of two words, which a model of random weights tells apart."""
    path = site / "rows.jsonl"
    words = {"harmful": "steal", "safe": "paint"}
    rows = [
        {"id": number, "type": label, "modality": "text", "text": f"{number} {f'{word} ' * 8}"}
        for number in range(160)
        for label, word in words.items()
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        found = _READY.search(log.read_text(errors="replace"))
        if found is not None:
            return found[1]
        time.sleep(0.5)
    raise SetupError(f"the server did not become ready; its log is {log}")


_TINY = """
from tests.models.tiny_omni import ensure
from tests.server.fixtures.live import CACHE
print(ensure(CACHE))
"""

if __name__ == "__main__":
    sys.exit(main())
