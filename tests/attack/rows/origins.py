"""Media fetched from an origin that misbehaves: rows 41 to 44, on a server that may fetch them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.attack.rows.media import ask
from tests.attack.rows.row import Probe, Row, Target, answered, refused
from tests.server.fixtures.media import image_part, png

SLOW_SECONDS = 40


class _Origin(BaseHTTPRequestHandler):
    """Answers by path; ``asked`` are all paths that were asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.strip("/")
        if name.isdigit():
            self.send_response(int(name))
            self.end_headers()
        elif name == "elsewhere":
            self.send_response(302)
            self.send_header("location", "/picture")
            self.end_headers()
        else:
            self._picture(10**12 if name == "huge" else len(png()), slow=name == "slow")

    def _picture(self, length: int, *, slow: bool) -> None:
        self.send_response(200)
        self.send_header("content-length", str(length))
        self.end_headers()
        if slow:
            self.wfile.flush()
            self.server.gone.wait(SLOW_SECONDS)  # type: ignore[attr-defined]
        self.wfile.write(png())

    def log_message(self, *_: Any) -> None:
        """Nothing: the table is what is told."""


@contextmanager
def _origin() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (_Origin,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.gone = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}", asked
        finally:
            server.gone.set()  # type: ignore[attr-defined]
            server.shutdown()


def _fetched(path: str, seconds: float = 10.0) -> Probe:
    def probe(target: Target) -> str:
        with _origin() as (url, asked):
            good = answered([ask(target, image_part(url=f"{url}/picture"))])
            before = len(asked)
            started = time.monotonic()
            seen = refused([ask(target, image_part(url=f"{url}/{path}"))], 422)
            took = time.monotonic() - started
            assert took < seconds, f"it took {took:.1f} s"
            assert len(asked) == before + 1, "the server followed or asked again"
        return f"{seen} in {took:.1f} s; a good one: {good}"

    return probe


def _failing(target: Target) -> str:
    return "; ".join(_fetched(path, 5.0)(target) for path in ("404", "500"))


ROWS = (
    Row((41,), "redirect to elsewhere", "422, not followed", _fetched("elsewhere")),
    Row((42,), "origin answers 404, 500", "422 in 5 s", _failing),
    Row((43,), "origin announces 10^12 bytes", "422 at once", _fetched("huge", 2.0)),
    Row((44,), "origin takes 40 s", "422 in 10 s", _fetched("slow")),
)
