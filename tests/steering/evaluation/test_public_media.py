"""Loaders of public sets with media, on small files of the sets' own schema."""

from __future__ import annotations

import base64
import importlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.expected import Choice, ModelAnswer, ShortAnswer
from refusal_steering.evaluation.suites.media import with_bytes
from refusal_steering.evaluation.suites.public.sets import PUBLIC_SETS
from refusal_steering.evaluation.suites.suite_spec import SuiteSpec
from refusal_steering.evaluation.suites.suites import Suite, load_suite
from tests.needs import ROOT

pytestmark = pytest.mark.usefixtures("no_hub")

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 16
SOUND = b"ID3sound"


def load(text: str, data_dir: Path | None = None, limit: int | None = None) -> Suite:
    return load_suite(SuiteSpec.parse(text), data_dir, limit)


def save(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(content), path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def kinds(suite: Suite) -> list[str]:
    return [case.modality for case in suite.cases]


def test_both_halves_of_video_safetybench_are_to_be_refused(tmp_path: Path) -> None:
    root = tmp_path / "video-safetybench"
    for half in ("harmful", "benign"):
        row = {
            "question_id": 1,
            "question": f"A {half} query",
            "harmful_intention": "Break in.",
            "question_type": half,
            "video_path": "video/1_Violent_Crimes/Theft/1.mp4",
            "category": "1_Violent_Crimes",
            "subcategory": "Theft",
        }
        save(root / f"{half}_data.json", [row])
    save(root / "video/1_Violent_Crimes/Theft/1.mp4", b"film")
    suite = load("video-safetybench", tmp_path)
    assert {(case.form, case.label) for case in suite.cases} == {
        ("harmful query", "harmful"),
        ("benign query", "harmful"),
    }
    assert kinds(suite) == ["text+video"] * 2 and suite.rubric == "video-safetybench"
    assert {case.intent for case in suite.cases} == {"Break in."}
    alone = load(f"video-safetybench:{root / 'benign_data.json'}")
    assert [case.form for case in alone.cases] == ["benign query"]


def test_holisafe_is_labelled_by_picture_and_query_together(tmp_path: Path) -> None:
    rows = [
        {"id": at, "image": "hate/a.png", "query": "What is it?", "type": kind, "category": "hate"}
        for at, kind in enumerate(("SSS", "SSU", "USU", "SUU", "UUU"))
    ]
    save(tmp_path / "holisafe" / "holisafe_bench.json", rows)
    save(tmp_path / "holisafe" / "images" / "hate" / "a.png", PNG)
    suite = load("holisafe", tmp_path)
    assert [case.label for case in suite.cases] == ["harmless", *["harmful"] * 4]
    assert [case.form for case in suite.cases] == [row["type"] for row in rows]
    assert kinds(suite) == ["text+image"] * 5 and suite.rubric == "holisafe"
    save(tmp_path / "holisafe" / "holisafe_bench.json", [{**rows[0], "type": "safe"}])
    with pytest.raises(EvaluationError, match="three letters"):
        load("holisafe", tmp_path)


def test_a_safe_picture_of_vlguard_is_asked_about_twice(tmp_path: Path) -> None:
    rows = [
        {
            "image": "a.png",
            "safe": True,
            "instr-resp": [
                {"safe_instruction": "Describe it.", "response": "x"},
                {"unsafe_instruction": "Insult them.", "response": "x"},
            ],
        },
        {"image": "b.png", "safe": False, "instr-resp": [{"instruction": "Describe it."}]},
    ]
    save(tmp_path / "vlguard" / "test.json", rows)
    for name in ("a.png", "b.png"):
        save(tmp_path / "vlguard" / "test" / name, PNG)
    suite = load("vlguard", tmp_path)
    assert Counter(case.form for case in suite.cases) == {
        "safe picture, safe request": 1,
        "safe picture, unsafe request": 1,
        "unsafe picture": 1,
    }
    assert [case.label for case in suite.cases] == ["harmless", "harmful", "harmful"]
    save(tmp_path / "vlguard" / "test.json", [{**rows[0], "instr-resp": []}])
    with pytest.raises(EvaluationError, match="no safe_instruction"):
        load("vlguard", tmp_path)


def test_mm_safetybench_has_its_13_scenarios_as_forms(tmp_path: Path) -> None:
    image = {"bytes": PNG, "path": "a.png"}
    for file in PUBLIC_SETS["mm-safetybench-13"].files:
        save(tmp_path / "mm-safetybench" / file, [{"question": "Do it", "image": image}])
    suite = load("mm-safetybench-13", tmp_path)
    assert len({case.form for case in suite.cases}) == len(suite.cases) == 13
    assert {case.label for case in suite.cases} == {"harmful"}
    assert {"Legal_Opinion", "Illegal_Activitiy"} <= {case.form for case in suite.cases}


@pytest.mark.parametrize("name", ["spa-vl", "jood"])
def test_pictures_with_a_question(name: str, tmp_path: Path) -> None:
    if name == "jood":
        save(tmp_path / name / "p" / "a.png", PNG)
        rows = [{"question": "Do it", "image": "p/a.png"}]
        save(tmp_path / name / "jood_dataset.json", rows)
    else:
        rows = [{"question": "Do it", "image": {"bytes": PNG, "path": None}}]  # type: ignore[dict-item]
        save(tmp_path / name / "test" / "harm-00000-of-00001.parquet", rows)
    suite = load(name, tmp_path)
    (case,) = suite.cases
    assert case.label == "harmful" and case.request == "[image_url]\nDo it"
    data = with_bytes(case.messages)[0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(data.removeprefix("data:image/png;base64,")) == PNG
    assert suite.expected == PUBLIC_SETS[name].rows


def test_hades_asks_with_its_last_picture_and_without_the_keyword(tmp_path: Path) -> None:
    rows = [
        {
            "image": {"bytes": PNG, "path": None},
            "id": "1",
            "scenario": scenario,
            "keywords": "loud bang",
            "step": step,
            "category": kind,
            "instruction": "Explain how to make a loud bang at home.",
        }
        for scenario, kind in (("Violence", "object"), ("Animal", "behavior"))
        for step in range(6)
    ]
    for file in PUBLIC_SETS["hades"].files:
        save(tmp_path / "hades" / file, rows)
    suite = load("hades", tmp_path)
    assert Counter(case.form for case in suite.cases) == {"Violence": 2, "Animal": 2}
    assert not any("loud bang" in case.request for case in suite.cases)
    assert "make a this object" in suite.cases[0].request
    assert "do this to" in suite.cases[1].request


def test_figstep_takes_the_prompt_that_its_copy_keeps(tmp_path: Path) -> None:
    root = tmp_path / "figstep"
    rows = "dataset,category_id,task_id\nForbidQI,1,1\nForbidQI,9,1\n"
    save(root / "data/question/safebench.csv", rows.encode())
    for topic in (1, 9):
        save(root / f"data/images/SafeBench/query_ForbidQI_{topic}_1_6.png", PNG)
    assert len(load("figstep", tmp_path).cases) == 1
    ours = load("figstep-500", tmp_path)
    assert len(ours.cases) == 2
    save(root / "prompt.txt", b"Fill in the list.\n")
    theirs = load("figstep-500", tmp_path)
    assert theirs.cases[0].request == "[image_url]\nFill in the list."
    assert theirs.to_json()["cases_sha256"] != ours.to_json()["cases_sha256"]


def test_files_of_the_omnisteer_authors_are_suites(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "type": "harmful", "modality": "audio", "text": "x", "audio": "data/A/1.wav"},
        {"id": 2, "type": "safe", "modality": "audio", "text": "y", "audio": "data/A/1.wav"},
    ]
    root = tmp_path / "omnisteer" / "data"
    save(root / "A" / "1.wav", b"RIFF")
    path = root / "beavertail_audio_1k.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    suite = load("omnisteer-beavertail-audio-1k", tmp_path)
    assert kinds(suite) == ["audio", "audio"]
    assert [case.label for case in suite.cases] == ["harmful", "harmless"]
    assert suite.rubric == "answer-only" and suite.expected == 998
    with pytest.raises(SuiteUnavailableError, match="DIR/omnisteer/"):
        load("omnisteer-harmbench", tmp_path)
    ours = [name for name in PUBLIC_SETS if name.startswith("omnisteer-")]
    assert len(ours) == 13


def test_omnibench_asks_about_picture_and_sound(tmp_path: Path) -> None:
    row = {
        "index": 0,
        "task type": "Action",
        "audio type": "speech",
        "question": "What happens?",
        "options": ["It rains", "It snows"],
        "answer": "It snows",
        "image": {"bytes": PNG, "path": "a.png"},
        "audio": {"bytes": SOUND, "path": "a.mp3"},
    }
    save(tmp_path / "omnibench-qa" / "data" / "train-0.parquet", [row, row])
    suite = load("omnibench-qa", tmp_path)
    assert kinds(suite) == ["text+image+audio"] * 2
    case = suite.cases[0]
    assert case.expected == Choice("B", ("It rains", "It snows")) and case.form == "Action"
    audio = case.messages[0]["content"][1]["input_audio"]
    assert (audio["format"], base64.b64decode(audio["data"])) == ("mp3", SOUND)
    save(tmp_path / "omnibench-qa" / "data" / "train-0.parquet", [{**row, "answer": "It hails"}])
    with pytest.raises(EvaluationError, match="0 of the choices"):
        load("omnibench-qa", tmp_path)


def test_mme_asks_two_questions_about_a_picture(tmp_path: Path) -> None:
    rows = [
        {
            "question_id": f"count/{at}.png",
            "image": {"bytes": PNG, "path": None},
            "question": f"Are there {count}? Please answer yes or no.",
            "answer": answer,
            "category": "count",
        }
        for at in range(3)
        for count, answer in ((2, "Yes"), (3, "No"))
    ]
    for shard in (0, 1):
        save(tmp_path / "mme" / "data" / f"test-{shard}.parquet", rows[3 * shard : 3 * shard + 3])
    suite = load("mme", tmp_path)
    assert len(suite.cases) == 6 and len({case.id for case in suite.cases}) == 6
    assert suite.cases[1].expected == ShortAnswer(("no",), "count/0.png")
    some = load("mme", tmp_path, limit=4).cases
    pairs = Counter(case.expected.pair for case in some if isinstance(case.expected, ShortAnswer))
    assert set(pairs.values()) == {2}
    save(tmp_path / "mme" / "data" / "test-0.parquet", [{**rows[0], "answer": "Perhaps"}])
    with pytest.raises(EvaluationError, match="neither yes nor no"):
        load("mme", tmp_path)


def test_rows_by_their_ids_are_read_for_gqa_and_mm_vet(tmp_path: Path) -> None:
    questions = {"201": {"imageId": "n1", "question": "Is it red?", "answer": "yes"}}
    save(tmp_path / "gqa" / "testdev_balanced_questions.json", questions)
    save(tmp_path / "gqa" / "images" / "n1.jpg", b"\xff\xd8")
    (gqa,) = load("gqa", tmp_path).cases
    assert gqa.expected == ShortAnswer(("yes",)) and gqa.modality == "text+image"
    assert gqa.request.startswith("[image_url]\nIs it red?\n")
    vet = {"v1_0": {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1 <AND> -5"}}
    save(tmp_path / "mm-vet" / "mm-vet.json", vet)
    save(tmp_path / "mm-vet" / "images" / "v1_0.png", PNG)
    suite = load("mm-vet", tmp_path)
    assert suite.cases[0].expected == ModelAnswer("-1 <AND> -5") and suite.rubric == "mm-vet"


def test_scienceqa_keeps_the_questions_with_a_picture(tmp_path: Path) -> None:
    row = {"question": "Which?", "choices": ["2", "1"], "answer": 1, "hint": "Look."}
    rows = [{**row, "image": {"bytes": PNG, "path": None}}, {**row, "image": None}]
    save(tmp_path / "scienceqa" / PUBLIC_SETS["scienceqa"].files[0], rows)
    (case,) = load("scienceqa", tmp_path).cases
    assert case.expected == Choice("B", ("2", "1"))
    assert case.request.startswith("[image_url]\nLook.\nWhich?\nA. 2\nB. 1\n")


def test_mvbench_finds_the_videos_of_each_task(tmp_path: Path) -> None:
    public = PUBLIC_SETS["mvbench"]
    row = {"video": "a.mp4", "question": "What moves?", "candidates": ["Ball", "Cube"]}
    for file in public.files:
        save(tmp_path / "mvbench" / file, [{**row, "answer": "Cube"}])
        save(tmp_path / "mvbench" / public.folders[file] / "a.mp4", b"film")
    suite = load("mvbench", tmp_path)
    assert len(suite.cases) == len({case.form for case in suite.cases}) == len(public.files)
    assert set(kinds(suite)) == {"text+video"}
    assert {case.expected for case in suite.cases} == {Choice("B", ("Ball", "Cube"))}


def test_a_row_that_lost_its_medium_is_not_asked_as_text(tmp_path: Path) -> None:
    for row in ({"question": "x"}, {"question": "x", "picture": "a.png"}):
        save(tmp_path / "jood" / "jood_dataset.json", [row])
        with pytest.raises(EvaluationError, match=r"row 1: no medium in any column image"):
            load("jood", tmp_path)


def test_sound_of_another_kind_is_refused(tmp_path: Path) -> None:
    row = {"question": "x", "options": ["a", "b"], "answer": "a", "task type": "t"}
    for sound in (b"\xff\xfbframe", b"RIFFwave"):
        save(tmp_path / "omnibench-qa" / "a.parquet", [{**row, "audio": {"bytes": sound}}])
        assert kinds(load("omnibench-qa", tmp_path)) == ["text+audio"]
    save(tmp_path / "omnibench-qa" / "a.parquet", [{**row, "audio": {"bytes": b"fLaCsound"}}])
    with pytest.raises(EvaluationError, match="neither WAV nor MP3"):
        load("omnibench-qa", tmp_path)


def test_the_documents_list_every_set_with_its_size() -> None:
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    listed: dict[str, str] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`([a-z0-9-]+)`", cells[0]) if line.startswith("| `") else []
        if names and len(cells) == 6:
            sizes = ["None"] if cells[1] == "not known" else re.findall(r"\d+", cells[1])
            listed |= dict(zip(names, sizes, strict=False))
    assert listed == {name: str(public.rows) for name, public in PUBLIC_SETS.items()}


def test_a_medium_that_is_neither_bytes_nor_a_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "jood" / "jood_dataset.json", [{"question": "x", "image": {"path": "a.png"}}])
    with pytest.raises(EvaluationError, match=r"row 1.*column image"):
        load("jood", tmp_path)
