from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from refusal_server.files import file_watcher
from refusal_server.files.file_watcher import FileWatcher

PATIENCE_SECONDS = 4.0


class Watched:
    """A running watcher, and what the file held at each call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str | None] = []
        self.task = asyncio.create_task(FileWatcher(path, self._changed).run())

    async def _changed(self) -> None:
        self.seen.append(self.path.read_text() if self.path.exists() else None)

    async def until(self, content: str | None) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.seen or self.seen[-1] != content:
                await asyncio.sleep(0.02)

    async def settle(self) -> int:
        await asyncio.sleep(1.0)
        return len(self.seen)


def swap(folder: Path, name: str, content: str) -> None:
    """What a kubelet does: a new folder, and a link renamed over the old one."""
    (folder / name).mkdir()
    (folder / name / "policy.yaml").write_text(content)
    temporary = folder / "..data_tmp"
    temporary.symlink_to(name)
    os.rename(temporary, folder / "..data")


def watch(path: Path, script: Callable[[Watched], object]) -> None:
    async def run() -> None:
        watched = Watched(path)
        try:
            await script(watched)  # type: ignore[misc]
        finally:
            watched.task.cancel()

    # Only changes of the folder may be what is noticed, not the regular look.
    patience = file_watcher._LOOK_AGAIN_MILLISECONDS
    assert patience / 1000 > PATIENCE_SECONDS
    asyncio.run(run())


def test_a_swap_of_a_mounted_config_map_is_seen(tmp_path: Path) -> None:
    swap(tmp_path, "..2026_1", "one")
    path = tmp_path / "policy.yaml"
    path.symlink_to("..data/policy.yaml")

    async def script(watched: Watched) -> None:
        await watched.until("one")
        assert await watched.settle() == 1
        for number, content in enumerate(("two", "three"), 2):
            swap(tmp_path, f"..2026_{number}", content)
            await watched.until(content)
        assert await watched.settle() == 3

    watch(path, script)


def test_edits_replacements_and_removals_are_seen_and_neighbours_are_not(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("one")

    async def script(watched: Watched) -> None:
        await watched.until("one")
        await watched.settle()
        path.write_text("two")
        await watched.until("two")
        other = tmp_path / "new"
        other.write_text("three")
        other.rename(path)
        await watched.until("three")
        path.unlink()
        await watched.until(None)
        path.write_text("four")
        await watched.until("four")
        calls = len(watched.seen)
        (tmp_path / "server.log").write_text("a line")
        assert await watched.settle() == calls

    watch(path, script)


def test_many_writes_in_a_moment_are_one_change(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("start")

    async def script(watched: Watched) -> None:
        await watched.until("start")
        await watched.settle()
        begin = time.monotonic()
        for number in range(15):
            path.write_text(f"part {number}")
            await asyncio.sleep(0.01)
        await watched.until("part 14")
        # A starved machine makes several moments of one, each no shorter than a quiet one.
        moments = (time.monotonic() - begin) * 1000 / file_watcher._QUIET_MILLISECONDS
        assert await watched.settle() <= min(3 + moments, 14)

    watch(path, script)


def test_a_call_that_fails_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watcher, "_RETRY_SECONDS", 0.1)
    path = tmp_path / "policy.yaml"
    path.write_text("one")
    calls = 0

    async def run() -> None:
        async def changed() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise RuntimeError("once")

        file_watcher_task = asyncio.create_task(FileWatcher(path, changed).run())
        async with asyncio.timeout(15):
            while calls < 2:
                path.write_text(f"{calls} {os.urandom(4).hex()}")
                await asyncio.sleep(0.3)
        file_watcher_task.cancel()

    asyncio.run(run())
