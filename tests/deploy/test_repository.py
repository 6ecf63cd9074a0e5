"""What hosts and tools read of the repository is valid, and checks stand before tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.needs import ROOT

GITHUB = ROOT / ".github"
# In two parts, so that this file does not hold it.
MARK = "pytest.mark" + ".engine"
CHECKS = ("ruff format --check", "ruff check", "mypy", "lint-imports", "vulture")


def make(target: str, *settings: str) -> str:
    """The commands that a target runs, which are not run."""
    command = ["make", "--dry-run", "EXTRA=cpu", target, *settings]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("github-workflows", GITHUB / "workflows" / "ci.yml"),
        ("github-issue-config", GITHUB / "ISSUE_TEMPLATE" / "config.yml"),
        *(
            ("github-issue-forms", path)
            for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml"))
            if path.name != "config.yml"
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_files_of_the_host_are_valid(schema: str, path: Path) -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", f"vendor.{schema}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_workflow_runs_what_continuous_integration_is() -> None:
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    steps = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps


def test_continuous_integration_checks_before_it_tests() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines.index("make lint") < lines.index("make test")


@pytest.mark.parametrize("target", ["lint", "check"])
def test_every_check_is_run_in_order_and_before_any_test(target: str) -> None:
    said = make(target)
    places = [said.index(f"/{check}") for check in CHECKS]
    assert places == sorted(places)
    if target == "check":
        assert said.index("-m pytest") > places[-1]


@pytest.mark.parametrize("asked", [("check",), ("test", "COVERAGE=yes")])
def test_coverage_is_judged_where_all_fast_tests_run_and_only_there(asked: tuple[str, ...]) -> None:
    assert re.search(r"coverage run -m pytest(.|\n)*tests\.coverage_floors", make(*asked))
    assert "coverage" not in make(*asked, "PYTEST=-k some")


def test_tests_with_an_engine_are_where_make_test_looks_for_them() -> None:
    commands = make("test").replace("\\\n", "").splitlines()
    (line,) = [line for line in commands if '"engine and not gpu"' in line]
    folders = [ROOT / word for word in line.split() if word.startswith("tests/")]
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if MARK in path.read_text()]
    elsewhere = [path for path in marked if not any(path.is_relative_to(one) for one in folders)]
    assert folders and elsewhere == []


def test_a_run_that_does_not_judge_coverage_says_so() -> None:
    said = make("test", "COVERAGE=no")
    assert "coverage run" not in said and "coverage: 'make check' judges it" in said


def test_hooks_run_tools_that_the_environment_has() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {Path(hook["entry"].split()[0]).name for hook in repository["hooks"]}
    assert programs == {"ruff", "lint-imports", "vulture", "mypy"}
    for program in programs:
        assert Path(sys.executable).with_name(program).exists(), program
