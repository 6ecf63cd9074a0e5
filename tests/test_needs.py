"""What is missing is skipped and said, or fails where it is required; nothing goes in silence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.needs import NEEDS, REQUIRE, ROOT, Need, need

GONE = Need("gone", lambda: False, "find it")
THERE = Need("there", lambda: True, "never said")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "NEEDS", {"gone": GONE, "there": THERE})
    monkeypatch.delenv(REQUIRE, raising=False)


def test_what_is_there_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    need("there")
    monkeypatch.setenv(REQUIRE, "there gone")
    need("there")


def test_what_is_missing_is_skipped_with_the_way_to_it() -> None:
    with pytest.raises(pytest.skip.Exception, match="gone is missing: find it"):
        need("gone")


def test_what_is_required_and_missing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE, "there gone")
    with pytest.raises(pytest.fail.Exception, match="gone is missing: find it"):
        need("gone")


def test_a_requirement_that_nobody_knows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRE, "gnoe")
    with pytest.raises(pytest.UsageError, match="names gnoe, expected some of gone, there"):
        need("gone")


def test_continuous_integration_requires_every_program() -> None:
    (required,) = re.findall(rf'{REQUIRE}="([^"]+)"', (ROOT / ".ci" / "run").read_text())
    assert set(required.split()) <= set(NEEDS)
    assert {"chromium", "espeak-ng", "prometheus", "promtool"} <= set(required.split())


TESTS = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_many(number): pytest.skip("bread is missing: bake it")
def test_one(): pytest.skip("salt is missing: buy it")
def test_two(): pass
"""


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "two"])
def test_a_run_ends_with_one_line_for_each_reason(
    processes: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    left_out = tmp_path / "left_out.txt"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *processes, str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "REFUSAL_TESTS_LEFT_OUT": str(left_out)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = ["2 tests: bread is missing: bake it", "1 test: salt is missing: buy it"]
    assert done.returncode == 0 and "\n".join(lines) in done.stdout, done.stdout + done.stderr
    assert left_out.read_text().splitlines() == lines
