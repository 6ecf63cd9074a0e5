"""Requests of a user's own in the papers' schema: groups, splits, files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import SteeringError
from refusal_steering.pipeline.media.plan import MediaPlan, lines
from refusal_steering.pipeline.media.requests import Requests, read_requests
from tests.steering.pipeline.media.fake_model import FACTS, content

ROW = {"id": 1, "type": "harmful", "text": "x"}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_parts_of_a_row_decide_its_group_and_its_messages(tmp_path: Path) -> None:
    for name in ("i.png", "s.wav"):
        (tmp_path / name).write_text(f"<{name}>")
    rows = [
        ROW,
        {**ROW, "text": "", "image": "i.png"},
        {**ROW, "image": "i.png", "modality": "image_text"},
        {**ROW, "type": "safe", "text": None, "audio": "s.wav", "image": "i.png", "video": ""},
    ]
    found = read_requests(write(tmp_path, *rows)).all
    assert [one.group for one in found] == ["text", "image", "text+image", "image+audio"]
    assert [one.harmful for one in found] == [True, True, True, False]
    assert found[0].messages() == [{"role": "user", "content": "x"}]
    assert content(found[2].messages()) == "<i.png>\nx"
    assert content(found[3].messages()) == "<i.png>\n<s.wav>"


def test_all_rows_of_an_id_fall_into_one_split(requests: Requests) -> None:
    splits: dict[str, set[str]] = {}
    for one in requests.all:
        splits.setdefault(one.id, set()).add(one.split)
    assert {len(found) for found in splits.values()} == {1}
    assert {name for found in splits.values() for name in found} == {"train", "tune", "held"}
    assert len(requests.part("held").all) == 5 * 2 * 3
    assert {one.split for one in requests.part("train", "tune").all} == {"train", "tune"}


def test_media_that_the_model_does_not_take_are_left_out(data: Path) -> None:
    assert read_requests(data).usable(()).groups == ("text",)
    assert len(read_requests(data, rows=20).usable(("image",)).chosen("train", "image", True)) == 20


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": 1, "text": "x"}, "'type' is None"),
        ({**ROW, "type": "bad"}, "'type' is 'bad'"),
        ({"id": 1, "type": "safe"}, "neither text nor a medium"),
        ({**ROW, "image": "missing.png"}, "no file"),
        ({**ROW, "image": ["a", "b"]}, "path of one file"),
        ({**ROW, "text": 3}, "expected a string"),
        ({"id": 1, "type": "safe", "txt": "x"}, "did you mean 'text'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SteeringError, match="line 2.*" + complaint):
        read_requests(write(tmp_path, ROW, row))


def test_what_the_data_lack_is_counted_before_any_work(data: Path) -> None:
    few = read_requests(data, rows=5).usable(("image",))
    with pytest.raises(SteeringError, match="text has 5 harmful and 5 harmless requests"):
        MediaPlan().check(few, FACTS)
    enough = read_requests(data).usable(("image",))
    with pytest.raises(SteeringError, match="cannot guarantee a budget"):
        MediaPlan(budget=0.01).check(enough, FACTS)
    with pytest.raises(SteeringError, match="no layer 6"):
        MediaPlan(layers=(6,), budget=0.1).check(enough, FACTS)
    MediaPlan(budget=0.1).check(enough, FACTS)


def test_the_plan_says_what_it_reads(requests: Requests) -> None:
    said = "\n".join(lines(MediaPlan(), requests, FACTS))
    count = len(requests.chosen("train", "text+image", True))
    assert f"text+image train {count} harmful and {count} harmless" in said
    assert f"({len(requests.all)} rows x " in said and "1 audio" in said
