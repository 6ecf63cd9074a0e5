"""A folder that omnibench has rendered is a suite: files become parts of OpenAI messages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.suites.media import with_bytes, with_files
from refusal_steering.evaluation.suites.suite_spec import SuiteSpec
from refusal_steering.evaluation.suites.suites import Suite, load_suite
from refusal_steering.omnibench import build
from tests.steering.omnibench.conftest import FLAT, NESTED, SILENT, needs_speech, speech, write

__all__ = ["speech", "write"]


def load(folder: Path, limit: int | None = None) -> Suite:
    return load_suite(SuiteSpec.parse(f"omnibench:{folder}"), limit=limit)


def row(*parts: Any, **fields: Any) -> dict[str, Any]:
    facts = {"id": "x", "label": "harmful", "combo": "i"}
    return {**facts, "messages": [{"role": "user", "content": list(parts)}], **fields}


def test_every_rendered_case_is_asked_once(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "rendered"
    build(write(NESTED, FLAT), folder, SILENT)
    suite = load(folder)
    assert suite.name == "omnibench:rendered"
    assert {(case.form, case.label) for case in suite.cases} == {
        (combo, label) for combo in SILENT for label in ("harmful", "harmless")
    }
    assert len(suite.cases) == len({case.id for case in suite.cases}) == 2 * len(SILENT)
    assert [source.name for source in suite.sources] == sorted(f"{combo}.jsonl" for combo in SILENT)
    assert len(load(folder, limit=3).cases) == 3


def test_images_and_videos_become_data_urls(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "rendered"
    build(write(NESTED), folder, SILENT)
    contents = {case.form: with_bytes(case.messages)[0]["content"] for case in load(folder).cases}
    for combo, kind, head in (("t2i", "image", "image/png"), ("t2v", "video", "video/mp4")):
        medium, text = contents[combo]
        before, _, data = medium[f"{kind}_url"]["url"].partition(",")
        assert (medium["type"], before) == (f"{kind}_url", f"data:{head};base64")
        listed = json.loads((folder / f"{combo}.jsonl").read_text())["messages"][0]["content"]
        file = folder / listed[0]["file"]
        assert base64.b64decode(data, validate=True) == file.read_bytes()
        assert text == {"type": "text", "text": listed[1]["text"]}
    assert contents["t"] == [{"type": "text", "text": NESTED["prompt"]}]


@needs_speech
def test_speech_becomes_input_audio(write: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "rendered"
    build(write(NESTED), folder, ["a2i", "t2va"])
    contents = {case.form: with_bytes(case.messages)[0]["content"] for case in load(folder).cases}
    image, audio = contents["a2i"]
    assert (image["type"], audio["type"]) == ("image_url", "input_audio")
    assert audio["input_audio"]["format"] == "wav"
    assert base64.b64decode(audio["input_audio"]["data"], validate=True)[:4] == b"RIFF"
    kinds = [part["type"] for part in contents["t2va"]]
    assert kinds == ["video_url", "input_audio", "text"]


def write_row(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "i.jsonl").write_text(json.dumps(content) + "\n")
    return folder


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "media/../../secret.png", "link"]
)
def test_files_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_row(tmp_path / "rendered", row({"type": "image", "file": name}))
    (folder / "media").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret.png")
    with pytest.raises(EvaluationError, match="outside its own folder"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"id": "x", "combo": "i", "label": "harmful"}, "messages"),
        (row({"type": "smell", "file": "a"}), "smell"),
        (row({"type": "image"}), "file"),
        (row("plain"), "render the folder again"),
        (row(messages=[{"content": []}, {"content": []}]), "render the folder again"),
        (row(label="evil"), "'evil'"),
        (row({"type": "image", "file": "none.png"}), "there is no file"),
    ],
)
def test_foreign_rows_are_refused(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        load(write_row(tmp_path / "rendered", content))


def test_a_folder_without_rows_says_how_to_render_one(tmp_path: Path) -> None:
    with pytest.raises(SuiteUnavailableError, match="refusal-steering omnibench"):
        load(tmp_path)
    for text in ("omnibench", f"omnibench:{tmp_path}?label=harmful"):
        with pytest.raises(EvaluationError, match="omnibench:FOLDER"):
            load_suite(SuiteSpec.parse(text))


def test_messages_of_the_benchmark_get_the_bytes_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    parts = [{"type": "image", "file": "a.png"}, {"type": "text", "text": "x"}]
    plain = {"role": "system", "content": "y"}
    found = with_files([plain, {"role": "user", "content": parts}], tmp_path)
    assert found[0] == plain
    assert found[1]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert found[1]["content"][1] == parts[1]
    with pytest.raises(EvaluationError, match="outside"):
        with_files([{"role": "user", "content": [{"file": "../a.png"}]}], tmp_path)
