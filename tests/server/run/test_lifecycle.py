"""From ready to stopped without an engine: ports, watching, signals and the exit code."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from refusal_server.run.announcement import announce
from refusal_server.run.app import build_app, build_ops_app
from refusal_server.run.front import Front
from refusal_server.run.lifecycle import Supervisor
from refusal_server.run.startup import StartupError, bind
from tests.server.fixtures.ops import BEARER, POLICY, Ops

PATIENCE_SECONDS = 60
Script = Callable[[httpx2.AsyncClient, httpx2.AsyncClient], Awaitable[None]]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


def run(ops: Ops, script: Script) -> int:
    """Serve while ``script`` talks to the callers' port and to the ops port; the exit code."""

    async def serve() -> int:
        main, operations = bind("127.0.0.1", 0), bind("127.0.0.1", 0)
        fronts = [
            Front(build_app(ops.service, ops.settings), ops.settings, main),
            Front(build_ops_app(ops.service, ops.settings), ops.settings, operations),
        ]
        urls = [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in (main, operations)]
        serving = asyncio.create_task(Supervisor(fronts, ops.service, ops.settings).run())
        await until(lambda: all(front.server.started for front in fronts))
        async with (
            httpx2.AsyncClient(base_url=urls[0], headers=BEARER) as callers,
            httpx2.AsyncClient(base_url=urls[1], headers=BEARER) as operators,
        ):
            await script(callers, operators)
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await serving

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return asyncio.run(serve())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_two_ports_one_policy_and_a_clean_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ops = Ops(tmp_path)

    async def script(callers: httpx2.AsyncClient, operators: httpx2.AsyncClient) -> None:
        assert (await operators.get("/ready")).status_code == 200
        assert (await callers.get("/ready")).status_code == 404
        assert (await callers.get("/v1/models")).status_code == 200
        assert (await callers.get(POLICY)).status_code == 404
        headers = {"if-match": ops.version, "content-type": "application/yaml"}
        text = ops.rig.text(1)
        response = await operators.put(POLICY, content=text, headers=headers)
        assert response.json()["version"] == ops.version

    assert run(ops, script) == 0
    shown = capsys.readouterr().out
    assert "refusal-server is ready" in shown
    assert shown.count("http://127.0.0.1:") >= 2


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_the_address_of_the_console_that_is_shown_leads_to_its_login(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    ops = Ops(tmp_path)
    settings = ops.settings.model_copy(update={"ops_host": host})
    try:
        listener = bind(host, 0)
    except StartupError:
        pytest.skip(f"the address {host} is missing: switch IPv6 on")

    async def visit() -> httpx2.Response:
        front = Front(build_ops_app(ops.service, settings), settings, listener)
        await front.open()
        announce(ops.service, settings, [listener, listener])
        shown = dict(re.findall(r"^  (\w+) +(http\S+)$", capsys.readouterr().out, re.MULTILINE))
        async with httpx2.AsyncClient(follow_redirects=True) as visitor:
            page = await visitor.get(shown["console"])
        await front.close()
        return page

    page = asyncio.run(visit())
    assert (page.status_code, page.url.path) == (200, "/console/login")


def test_without_an_admin_key_no_console_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ops = Ops(tmp_path, key=None)
    with bind("127.0.0.1", 0) as listener:
        announce(ops.service, ops.settings, [listener, listener])
    shown = capsys.readouterr().out
    assert "  ops " in shown and "console" not in shown


def test_an_edit_and_a_sighup_bring_the_file_into_force(tmp_path: Path) -> None:
    ops = Ops(tmp_path)

    async def script(callers: httpx2.AsyncClient, operators: httpx2.AsyncClient) -> None:
        first = ops.version
        await asyncio.sleep(0.5)
        ops.rig.use(1)
        await until(lambda: ops.version != first)
        second = ops.version
        ops.rig.path.write_text("half")
        await until(lambda: ops.rig.ranks.gauges[-1] == "failed")
        assert ops.version == second
        (tmp_path / "b1" / "manifest.json").touch()
        ops.rig.use(2)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: ops.version != second)
        await until(lambda: ops.keys.reloads == 1)

    assert run(ops, script) == 0
    assert [event.source for event in ops.rig.events.seen][:2] == ["start", "file"]
