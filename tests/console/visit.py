"""A visit of the console in a browser: the site under test and a page that notes complaints."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from tests.server.fixtures.console_rig import ConsoleRig
from tests.server.fixtures.media import mp4, png, wav
from tests.server.fixtures.ops import ADMIN

# A folder to look at what the browser saw.
PICTURES = os.environ.get("CONSOLE_SCREENSHOTS")
HOSTILE = "<img src=x onerror=alert(1)>"
RULES: dict[str, dict[str, Any]] = {
    "strict": {"mode": "enforce", "bundle": "omnisteer", "strength": 1.5, "description": HOSTILE},
    "brief": {"mode": "enforce", "bundle": "static", "window": {"decode_tokens": 4}},
}


class Site:
    """The ops application on a port of its own."""

    def __init__(self, rig: ConsoleRig) -> None:
        self.rig = rig
        config = uvicorn.Config(rig.app, port=0, lifespan="off", log_config=None, ws="none")
        self.serve(uvicorn.Server(config))

    def serve(self, server: uvicorn.Server) -> None:
        """Have ``server`` run in a thread, once this is entered."""
        self.server = server
        self._thread = threading.Thread(target=server.run, daemon=True)

    def __enter__(self) -> Site:
        self._thread.start()
        end = time.monotonic() + 20
        while not self.server.started and time.monotonic() < end:
            time.sleep(0.02)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/console"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(20)


class Visit:
    """A page, and everything that it has complained about."""

    def __init__(self, browser: Any, site: Site, **options: Any) -> None:
        self.site = site
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _note(self, message: Any) -> None:
        # A refused request is the answer that some of these tests are after.
        if message.type in ("error", "warning") and "status of 4" not in message.text:
            self.complaints.append(message.text)

    def log_in(self) -> Any:
        self.page.goto(self.site.url)
        self.page.locator("#key:focus").wait_for()
        self.page.keyboard.type(ADMIN)
        self.page.keyboard.press("Enter")
        self.page.get_by_text("ready", exact=True).wait_for()
        return self.page

    def tab_to(self, selector: str) -> None:
        """Reach a control as somebody without a mouse does."""
        for _ in range(80):
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{selector} cannot be reached by keyboard")

    def see(self, name: str) -> None:
        if PICTURES:
            self.page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def files(folder: Path) -> dict[str, str]:
    made = {"image": ("a.png", png()), "audio": ("a.wav", wav()), "video": ("a.mp4", mp4())}
    for name, content in made.values():
        (folder / name).write_bytes(content)
    return {kind: str(folder / name) for kind, (name, _) in made.items()}


def play(page: Any, folder: Path | None = None) -> None:
    page.fill("#message", "How do I do it?")
    for kind, path in (files(folder) if folder else {}).items():
        page.set_input_files(f"#file-{kind}", path)
    page.click("#play")
    page.get_by_text("Done.", exact=True).wait_for()
