"""The policy file and its history on disks that do not do what they should."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from refusal_server.errors import ApiError
from refusal_server.policy.policy_history import PolicyHistory
from refusal_server.policy.policy_source import PolicySourceFile

VERSION = "0123456789ab"


def folder_in_its_place(path: Path) -> None:
    path.mkdir()
    (path / "inside").touch()


def link(path: Path) -> None:
    path.with_name("mounted.yaml").write_text("old")
    path.symlink_to("mounted.yaml")


def found(folder: Path) -> dict[Path, bytes | None]:
    """Everything below a folder, with the content of what is a file."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [(folder_in_its_place, "cannot be replaced here"), (link, "ConfigMap")],
    ids=["folder", "link"],
)
def test_a_file_that_cannot_be_replaced_stays_and_says_where_to_change_it(
    tmp_path: Path, prepare: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "policy.yaml"
    prepare(path)
    before = found(tmp_path)
    with pytest.raises(ApiError, match=reason) as caught:
        PolicySourceFile(path).write(b"new")
    assert (caught.value.status, caught.value.code) == (409, "policy_file_read_only")
    assert found(tmp_path) == before


@pytest.mark.parametrize("old", [None, b"old"])
def test_what_was_there_is_put_back(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "policy.yaml"
    if old is not None:
        path.write_bytes(old)
    source = PolicySourceFile(path)
    before = source.content()
    source.write(b"new")
    assert source.content() == b"new"
    source.restore(before)
    assert source.content() == old == before


def test_what_cannot_be_put_back_is_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "policy.yaml"
    folder_in_its_place(path)
    for old in (None, b"old"):
        caplog.clear()
        PolicySourceFile(path).restore(old)
        assert "was not restored" in caplog.text


def test_a_history_of_size_0_keeps_nothing(tmp_path: Path) -> None:
    history = PolicyHistory(tmp_path / "h", 0)
    history.push(VERSION, "text")
    assert history.versions == [] and history.last is None
    assert not (tmp_path / "h").exists()


def test_a_folder_that_cannot_be_written_costs_the_restart_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "h"
    place.write_text("a file in its place")
    history = PolicyHistory(place, 1)
    with caplog.at_level(logging.WARNING):
        history.push(VERSION, "first")
        history.push(VERSION[::-1], "second")
    assert history.versions == [VERSION[::-1]]
    assert "in memory only" in caplog.text and "was not trimmed" in caplog.text
    assert PolicyHistory(place, 1).versions == []


def test_a_history_that_cannot_be_read_is_empty_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / f"00000001-{VERSION}.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.txt").write_text("no policy")
    history = PolicyHistory(tmp_path, 3)
    assert history.versions == []
    assert "policy history cannot be read" in caplog.text


def test_a_restart_with_a_smaller_size_keeps_the_newest(tmp_path: Path) -> None:
    history = PolicyHistory(tmp_path, 3)
    for text in ("one", "two", "three"):
        history.push(VERSION, text)
    again = PolicyHistory(tmp_path, 2)
    assert again.last is not None and (again.last.number, again.last.text) == (3, "three")
    assert len(again.versions) == 2
    again.drop_last()
    assert again.last.text == "two"
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["one", "two"]
