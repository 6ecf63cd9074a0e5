"""Every example that talks to a server is run against one, and says what it should."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.said import said
from tests.examples.served import Served
from tests.needs import ROOT, need
from tests.server.fixtures.console_rig import REFUSAL

EXAMPLES = ROOT / "examples"
# The script's engine refuses under the default policy, in fourteen words.
ROWS = 14


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as found:
        yield found


def test_curl(served: Served) -> None:
    text = said(EXAMPLES / "curl.sh", served.root)
    models, whole, streamed, refused = re.split(r"^== .*\n", text, flags=re.MULTILINE)[1:]
    assert '"modalities"' in models
    assert REFUSAL in whole and f'"rows_verified":{ROWS}' in whole
    assert streamed.rstrip().endswith("data: [DONE]")
    assert '"steering"' in streamed.rstrip().splitlines()[-3]
    assert "invalid_steering" in refused and "strength" in refused


def test_python_sdk_whole_streamed_and_with_media(served: Served) -> None:
    program = EXAMPLES / "chat_media.py"
    text = said(sys.executable, program, "--base-url", served.url, "--policy", "static")
    for medium in ("text", "image", "audio", "video", "image, audio and video"):
        part = text.partition(f"== {medium}\n")[2].partition("== ")[0]
        assert part.count(repr(REFUSAL)) == 2, medium
        assert part.count(f"{ROWS} rows verified") == 2, medium
    assert "failed" not in text


def test_javascript_sdk(served: Served) -> None:
    need("node-openai")
    text = said("node", EXAMPLES / "javascript" / "chat.mjs", served.url)
    assert f"whole: {REFUSAL}" in text and f"streamed: {REFUSAL}" in text
    assert text.count(f"enforce static: coefficient 9, {ROWS} rows verified") == 2
    assert "header: policy=static;" in text
    assert f"picture: {REFUSAL}" in text
    assert "refused: 400 invalid_steering" in text


def test_langchain(served: Served) -> None:
    need("langchain-openai")
    text = said(sys.executable, EXAMPLES / "langchain_chat.py", served.url)
    assert f"whole: {REFUSAL}" in text and f"streamed: {REFUSAL}" in text
    assert "header: policy=static;" in text
    pieces = re.search(r"\((\d+) pieces\)", text)
    assert pieces is not None and int(pieces[1]) > 5
