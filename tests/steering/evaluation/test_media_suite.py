"""The papers' common schema as a suite: what is sent, where files lie, and the table of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import SteeringError
from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.run import evaluate
from refusal_steering.evaluation.suites.media import with_bytes
from refusal_steering.evaluation.suites.suite_spec import SuiteSpec
from refusal_steering.evaluation.suites.suites import Suite, load_suite
from refusal_steering.pipeline.media.requests import read_requests
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import Ask
from tests.steering.evaluation.scripted import settings
from tests.steering.evaluation.texts import ANSWER, REFUSAL

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 16
ROWS: list[dict[str, Any]] = [
    {"id": 1, "type": "harmful", "modality": "text", "text": "bad words"},
    {"id": 1, "type": "safe", "modality": "text", "text": "good words"},
    {"id": 2, "type": "harmful", "modality": "image_text", "text": "bad", "image": "m/a.png"},
    {"id": 3, "type": "safe", "modality": "image_text", "text": "good", "image": "m/a.png"},
    {"id": 4, "type": "harmful", "modality": "audio", "text": "said aloud", "audio": "m/a.wav"},
    {"id": 5, "type": "safe", "modality": "text_video", "text": "good", "video": "m/a.mp4"},
    {
        "id": 6,
        "type": "harmful",
        "modality": "video_audio_text",
        "text": "bad",
        "audio": "m/a.wav",
        "video": "m/a.mp4",
    },
]


def write(folder: Path, rows: list[dict[str, Any]], name: str = "asked.jsonl") -> Path:
    media = folder / "m"
    media.mkdir(parents=True, exist_ok=True)
    (media / "a.png").write_bytes(PNG)
    (media / "a.wav").write_bytes(b"RIFFsound")
    (media / "a.mp4").write_bytes(b"film")
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def load(path: Path) -> Suite:
    return load_suite(SuiteSpec.parse(f"media:{path}"))


def test_what_a_row_sends_is_what_its_modality_names(tmp_path: Path) -> None:
    cases = load(write(tmp_path, ROWS)).cases
    assert [case.modality for case in cases] == [
        *("text", "text", "text+image", "text+image", "audio", "text+video", "text+video+audio")
    ]
    assert [case.form for case in cases] == [case.modality for case in cases]
    assert {case.label for case in cases} == {"harmful", "harmless"}
    spoken = cases[4]
    assert [part["type"] for part in spoken.messages[0]["content"]] == ["input_audio"]
    assert spoken.intent == "said aloud" and "said aloud" not in spoken.request
    assert all(case.intent is None for case in cases if case is not spoken)


def test_evaluation_and_calibration_read_the_same_requests(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS)
    built = read_requests(path).all
    sent = [with_bytes(case.messages) for case in load(path).cases]
    assert [one.messages() for one in built] == sent
    assert [one.group for one in built] == [case.form for case in load(path).cases]


def test_paths_may_begin_with_the_name_of_the_files_own_folder(tmp_path: Path) -> None:
    row = {"type": "safe", "text": "x"}
    rows = [{**row, "image": name} for name in ("data/m/a.png", "/else/data/m/a.png", "m/a.png")]
    contents = [
        with_bytes(case.messages)[0]["content"][0]
        for case in load(write(tmp_path / "data", rows)).cases
    ]
    data = base64.b64encode(PNG).decode()
    assert {part["image_url"]["url"] for part in contents} == {f"data:image/png;base64,{data}"}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"modality": "smell"}, "'modality' is 'smell'"),
        ({"modality": "text", "image": "m/a.png"}, "'modality' is 'text'"),
        ({"modality": "image_text"}, "brings no medium"),
        ({"image": "../outside.png"}, "no file"),
        ({"image": "/etc/hostname"}, "no file"),
        ({"image": "m/none.png"}, r"m/none\.png is empty"),
        ({"type": "evil"}, "'type' is 'evil'"),
        ({"type": ["harmful"]}, r"'type' is \['harmful'\]"),
    ],
)
def test_a_wrong_row_is_named_before_anything_is_asked(
    tmp_path: Path, row: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "outside.png").write_bytes(PNG)
    (tmp_path / "rows" / "m").mkdir(parents=True)
    (tmp_path / "rows" / "m" / "none.png").touch()
    path = write(tmp_path / "rows", [ROWS[0], {"type": "safe", "text": "x", **row}])
    with pytest.raises(SteeringError, match=f"line 2.*{complaint}"):
        load(path)


def test_a_picture_in_the_column_of_sounds_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    path = write(tmp_path, [{"type": "harmful", "text": "x", "audio": "a.png"}])
    with pytest.raises(SteeringError, match=r"a\.png is named as audio"):
        load(path)


def test_a_file_counts_by_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    one, two = (load(write(tmp_path / name, ROWS)) for name in ("one", "two"))
    assert one.to_json()["cases_sha256"] == two.to_json()["cases_sha256"]
    path = write(tmp_path / "two", ROWS)
    (tmp_path / "two" / "m" / "a.wav").write_bytes(b"RIFFother")
    assert load(path).to_json()["cases_sha256"] != one.to_json()["cases_sha256"]


def test_media_are_read_when_they_are_sent(serve: Serve, tmp_path: Path) -> None:
    path = write(tmp_path, ROWS[2:4])
    wanted = settings(
        serve(lambda _: ANSWER), tmp_path, suites=(f"media:{path}",), policies=(), perplexity=False
    )
    suite = load(path)
    assert not any("base64" in str(case.messages) for case in suite.cases)
    results = evaluate(wanted)
    assert results["summary"][0]["failed_requests"] == 0
    assert "base64" not in json.dumps(results)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [lambda path: path.unlink(missing_ok=True), emptied])
def test_a_medium_that_is_gone_fails_its_request_alone(
    serve: Serve, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = write(tmp_path, ROWS[1:4])

    def damaging(ask: Ask) -> str:
        damage(tmp_path / "m" / "a.png")
        return ANSWER

    server = serve(damaging)
    wanted = settings(
        server,
        tmp_path,
        suites=(f"media:{path}",),
        policies=(),
        perplexity=False,
        access=Access(server.url, retries=0, concurrency=1),
    )
    results = evaluate(wanted)
    errors = [answer["reply"]["error"] for answer in results["answers"]]
    assert errors[0] is None and all("cannot be read" in error for error in errors[1:])


def test_the_table_is_by_modality_and_type_with_n_and_intervals(
    serve: Serve, tmp_path: Path
) -> None:
    def steer(ask: Ask) -> str:
        return REFUSAL if ask.policy == "steer" and "bad" in ask.text else ANSWER

    table = tmp_path / "table.md"
    wanted = settings(
        serve(steer),
        tmp_path,
        suites=(f"media:{write(tmp_path, ROWS)}",),
        perplexity=False,
        markdown=table,
    )
    results = evaluate(wanted)
    rows = [line for line in table.read_text().splitlines() if line.startswith("| text+image ")]
    assert rows == [
        "| text+image | harmful | off | refused | 0.0 % (0.0 to 79.3) | 1 | 0 |",
        "| text+image | harmful | steer | refused | 100.0 % (20.7 to 100.0) | 1 | 0 |",
        "| text+image | harmless | off | answered | 100.0 % (20.7 to 100.0) | 1 | 0 |",
        "| text+image | harmless | steer | answered | 100.0 % (20.7 to 100.0) | 1 | 0 |",
    ]
    by_modality = results["summary"][1]["scores"]
    (score,) = by_modality.values()
    for metric in ("rsr", "bar"):
        counted = sum(cell[metric]["n"] for cell in score["modalities"].values())
        assert counted == score[metric]["n"]


def test_a_media_suite_needs_a_file() -> None:
    for text in ("media", "media:rows.jsonl?label=harmful"):
        with pytest.raises(SteeringError, match=r"media:FILE\.jsonl"):
            load_suite(SuiteSpec.parse(text))
