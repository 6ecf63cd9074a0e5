"""The wheel and the sdist hold what they must, and the wheel works where the sources are not."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import refusal_server
import release
from tests.needs import ROOT
from tests.server.fixtures.bundles import write_bundle

VERSION = refusal_server.__version__


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return release.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with the dependencies of this one."""
    venv = tmp_path_factory.mktemp("release") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    # A folder that a .pth names is a place for packages, but its own .pth files are not read: the
    # sources, which are installed in place, are not among them.
    home = next(venv.glob("lib/python3.*/site-packages"))
    (home / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    release.install(venv, built[0])
    return venv


def run(venv: Path, folder: Path, program: str, *words: object) -> str:
    done = subprocess.run(
        [venv / "bin" / program, *map(str, words)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_and_sdist_hold_what_they_must(built: tuple[Path, Path]) -> None:
    wheel, sdist = built
    assert wheel.name == f"refusal_steering-{VERSION}-py3-none-any.whl"
    assert sdist.name == f"refusal_steering-{VERSION}.tar.gz"
    assert release.wheel_problems(wheel) == release.sdist_problems(sdist) == []


def test_a_wheel_without_its_licence_or_with_tests_would_be_told(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel = tmp_path / built[0].name
    with zipfile.ZipFile(built[0]) as whole, zipfile.ZipFile(wheel, "w") as part:
        for name in whole.namelist():
            if not name.endswith("/NOTICE"):
                part.writestr(name, "")
        part.writestr("tests/__init__.py", "")
    lacks, has = release.wheel_problems(wheel)
    assert "NOTICE" in lacks and "tests" in has


def test_the_sdist_makes_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    again = release.from_sdist(sdist, tmp_path)
    assert release.differences(wheel, again) == []
    with zipfile.ZipFile(again, "a") as archive:
        archive.writestr("refusal_server/more.py", "")
    (said,) = release.differences(wheel, again)
    assert said.startswith("refusal_server/more.py differs")


def test_the_wheel_works_where_the_sources_are_not(installed: Path, tmp_path: Path) -> None:
    where = (
        "import refusal_server, refusal_steering as s; print(refusal_server.__file__, s.__file__)"
    )
    for path in run(installed, tmp_path, "python", "-c", where).split():
        assert Path(path).is_relative_to(installed)
    assert run(installed, tmp_path, "refusal-server", "--version") == f"refusal-server {VERSION}\n"
    assert VERSION in run(installed, tmp_path, "refusal-steering", "--version")
    run(installed, tmp_path, "refusal-server", "policy", "init", "site")
    write_bundle(tmp_path / "site" / "bundles" / "main")
    policy = tmp_path / "site" / "policy.yaml"
    assert run(installed, tmp_path, "refusal-server", "policy", "check", policy).startswith("ok")
    bundle = tmp_path / "site" / "bundles" / "main"
    assert "static" in run(installed, tmp_path, "refusal-steering", "inspect", bundle)
    pages = "from refusal_server.console.pages import static_files; print(*static_files())"
    assert "console.js" in run(installed, tmp_path, "python", "-c", pages)
    plugins = (
        "from importlib.metadata import entry_points as e; "
        "print([p.load() for p in e(group='vllm.general_plugins') if p.name == 'refusal_steering'])"
    )
    assert "register" in run(installed, tmp_path, "python", "-c", plugins)


def test_files_that_name_the_version_name_this_one() -> None:
    for name, mark in {
        "CHANGELOG.md": f"## {VERSION} ",
        "deploy/helm/refusal-server/Chart.yaml": f'appVersion: "{VERSION}"',
        "deploy/compose/compose.yaml": f"refusal-server:{VERSION}",
        "Dockerfile": f'version="{VERSION}"',
        "deploy/docker/Dockerfile.cpu": f'version="{VERSION}-cpu"',
    }.items():
        assert mark in (ROOT / name).read_text(), name
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == VERSION
