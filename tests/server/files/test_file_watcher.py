"""What a file watcher notices. Only changes of the folder may be noticed, so that the regular look
is put off, and every test waits for the watch to be there before it states anything."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from refusal_server.files.file_watcher import FileWatcher, Pace

PACE = Pace(look_again=3600.0)
PATIENCE_SECONDS = 60.0


class Watched:
    """A running watcher, and what the file held at each call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str | None] = []
        self.task = asyncio.create_task(FileWatcher(path, self._changed, PACE).run())

    async def _changed(self) -> None:
        self.seen.append(self.path.read_text() if self.path.exists() else None)

    async def until(self, content: str | None) -> None:
        """Wait until the file was seen to hold ``content``."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.seen or self.seen[-1] != content:
                await asyncio.sleep(0.01)

    async def begun(self, change: Callable[[str], object]) -> None:
        """Change the file until that is seen without the first look; then forget all calls."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.seen) < 2:
                change(f"change {len(self.seen)} {os.urandom(4).hex()}")
                await asyncio.sleep(0.3)
        change("begun")
        await self.until("begun")
        self.seen.clear()


def swap(folder: Path, content: str) -> None:
    """What a kubelet does: a new folder, and a link renamed over the old one."""
    name = f"..{content}"
    (folder / name).mkdir()
    (folder / name / "policy.yaml").write_text(content)
    temporary = folder / "..data_tmp"
    temporary.symlink_to(name)
    os.rename(temporary, folder / "..data")


def watch(path: Path, script: Callable[[Watched], Awaitable[None]]) -> None:
    async def run() -> None:
        watched = Watched(path)
        try:
            await script(watched)
        finally:
            watched.task.cancel()

    asyncio.run(run())


def test_a_swap_of_a_mounted_config_map_is_one_change(tmp_path: Path) -> None:
    swap(tmp_path, "first")
    path = tmp_path / "policy.yaml"
    path.symlink_to("..data/policy.yaml")

    async def script(watched: Watched) -> None:
        await watched.begun(lambda content: swap(tmp_path, content))
        for content in ("one", "two", "three"):
            swap(tmp_path, content)
            await watched.until(content)
        assert watched.seen == ["one", "two", "three"]

    watch(path, script)


def test_edits_replacements_and_removals_are_seen_and_neighbours_are_not(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("first")

    async def script(watched: Watched) -> None:
        await watched.begun(path.write_text)
        replace(path, "one")
        await watched.until("one")
        path.unlink()
        await watched.until(None)
        path.write_text("two")
        await watched.until("two")
        watched.seen.clear()
        for number in range(5):
            (tmp_path / "server.log").write_text(f"line {number}")
            await asyncio.sleep(0.2)
        replace(path, "three")
        await watched.until("three")
        assert watched.seen == ["three"]

    watch(path, script)


def replace(path: Path, content: str) -> None:
    """What an editor does, so that no reader meets half a file."""
    other = path.with_name("new")
    other.write_text(content)
    other.rename(path)


def test_writes_before_anybody_could_look_are_one_change(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("first")

    async def script(watched: Watched) -> None:
        await watched.begun(path.write_text)
        for number in range(15):
            path.write_text(f"part {number}")
        await watched.until("part 14")
        replace(path, "end")
        await watched.until("end")
        assert watched.seen == ["part 14", "end"]

    watch(path, script)


def test_a_call_that_fails_does_not_end_the_watch(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("first")
    calls = 0

    async def changed() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("once")

    async def run() -> None:
        watching = asyncio.create_task(FileWatcher(path, changed, Pace(retry=0.1)).run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while calls < 2:
                path.write_text(os.urandom(4).hex())
                await asyncio.sleep(0.3)
        watching.cancel()

    asyncio.run(run())
