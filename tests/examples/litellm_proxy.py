"""LiteLLM's real proxy with this project's configuration, before a server of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.examples.ports import free_port
from tests.needs import ROOT, litellm

CONFIG = ROOT / "deploy" / "integrations" / "litellm.yaml"
# What the reader is told to put the server's own name in the place of.
NAME = "qwen2.5-coder-0.5b-instruct-omni"
KEY = "sk-of-the-proxy"
START_SECONDS = 120.0


@contextmanager
def proxy(folder: Path, url: str, model: str) -> Iterator[str]:
    """The address, with ``/v1``, of a proxy before the server at ``url`` with its ``model``."""
    program = litellm()
    assert program is not None
    config, log = folder / "litellm.yaml", folder / "litellm.log"
    config.write_text(CONFIG.read_text().replace(NAME, model))
    port = free_port()
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env=_environment(url), stdout=said, stderr=said, start_new_session=True
        )
    try:
        _await(process, f"http://127.0.0.1:{port}/health/liveliness", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _environment(url: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "REFUSAL_SERVER_URL": url,
        "REFUSAL_SERVER_API_KEY": "none",
        "LITELLM_MASTER_KEY": KEY,
        # Prices that the package has, and not those of the internet.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def _await(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"the proxy did not start:\n{log.read_text()[-3000:]}")
