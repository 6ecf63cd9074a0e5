"""Suites: forms, labels, sources, limits, and what is said where data are missing."""

from __future__ import annotations

import base64
import csv
import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.expected import Choice
from refusal_steering.evaluation.suites.checksums import known_digests
from refusal_steering.evaluation.suites.public.sets import PUBLIC_SETS
from refusal_steering.evaluation.suites.suite_spec import SuiteSpec
from refusal_steering.evaluation.suites.suites import Suite, load_suite
from refusal_steering.prompts.contrast_set import FORMS, load_items
from tests.needs import SHARED, need
from tests.steering.evaluation.plain_cases import file_cases

pytestmark = pytest.mark.usefixtures("no_hub")

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 16


def load(text: str, data_dir: Path | None = None, limit: int | None = None) -> Suite:
    return load_suite(SuiteSpec.parse(text), data_dir, limit)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def replace_hub(monkeypatch: pytest.MonkeyPatch, library: type) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)


def test_contrast_holds_only_held_out_items_in_all_forms() -> None:
    suite = load("contrast")
    held = {item.id: item for item in load_items() if item.split == "held"}
    assert {case.id.split("/")[0] for case in suite.cases} == set(held)
    assert {case.form.removesuffix(", new template") for case in suite.cases} == set(FORMS)
    for case in suite.cases:
        item = held[case.id.split("/")[0]]
        assert (case.label == "harmful") == item.harmful
        assert (case.label == "borderline") == (item.domain == "borderline")


def test_a_limit_is_even_over_forms_and_labels_and_always_the_same() -> None:
    some, again = load("contrast", limit=42), load("contrast", limit=42)
    assert some.cases == again.cases and len(some.cases) == 42
    counts = Counter((case.form, case.label) for case in some.cases)
    assert max(counts.values()) - min(counts.values()) <= 1
    whole = [case.id for case in load("contrast").cases]
    places = [whole.index(case.id) for case in some.cases]
    assert places == sorted(places)


def test_a_file_in_four_forms_is_what_a_preview_uses() -> None:
    need("shared-data")
    path = SHARED / "advbench_omni_dev.jsonl"
    suite = load(f"file:{path}")
    assert [(case.form, case.request) for case in suite.cases] == [
        (case.group, case.prompt) for case in file_cases(path)
    ]
    assert [case.label == "harmful" for case in suite.cases] == [
        case.harmful for case in file_cases(path)
    ]
    assert suite.sources[0].checksum == "as known"


def test_xstest_labels_by_contrast() -> None:
    need("shared-data")
    suite = load(f"xstest:{SHARED / 'xstest' / 'completions_llama2new.csv'}")
    assert Counter(case.label for case in suite.cases) == {"borderline": 250, "harmful": 200}
    assert suite.expected == suite.available == 450
    assert suite.sources[0].checksum == "as known"


def test_a_csv_with_prompts_and_one_label(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "my.csv", [{"prompt": "One thing"}, {"prompt": "Two?"}])
    suite = load(f"file:{path}?label=harmless&forms=plain,role")
    assert [case.form for case in suite.cases] == ["plain", "role"] * 2
    assert {case.label for case in suite.cases} == {"harmless"}
    assert suite.cases[0].request == "One thing."
    assert suite.sources[0].checksum == "none known" and len(suite.sources[0].sha256) == 64


@pytest.mark.parametrize(
    ("name", "options", "forms"),
    [
        ("why?.csv", "", ["plain", "carrier", "list", "role"]),
        ("why?.csv", "?forms=role", ["role"]),
        ("a?b=c.csv", "?", ["plain", "carrier", "list", "role"]),
        ("a?b=c.csv", "?forms=list", ["list"]),
    ],
)
def test_a_path_may_have_question_marks(
    tmp_path: Path, name: str, options: str, forms: list[str]
) -> None:
    path = write_csv(tmp_path / name, [{"prompt": "One thing", "label": "harmful"}])
    assert [case.form for case in load(f"file:{path}{options}").cases] == forms


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x"}, "no label"),
        ({"prompt": "x", "label": "evil"}, "evil"),
        ({"label": "harmful"}, "no text"),
        ({"prompt": "x", "label": "harmful", "visual": {"payload": "y"}}, "instruction"),
    ],
)
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "label": "harmful"}, row])
    with pytest.raises(EvaluationError, match=f"row 2.*{message}"):
        load(f"file:{path}")


@pytest.mark.parametrize(
    "text",
    [
        *("nothing", "file", "contrast?forms=song", "contrast?x=1", "contrast?forms"),
        *("contrast:/x", "contrast?label=x"),
    ],
)
def test_a_spec_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(EvaluationError):
        load(text)


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "x", "label": "harmful"}] * 2
    with pytest.raises(EvaluationError, match="more than one"):
        load(f"file:{write_jsonl(tmp_path / 'rows.jsonl', rows)}")


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_a_set_that_is_not_at_hand_says_where_to_put_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        SuiteUnavailableError, match=f"DIR/{PUBLIC_SETS[name].place}/.*--data-dir"
    ) as caught:
        load(name, tmp_path)
    assert PUBLIC_SETS[name].home in str(caught.value)


@pytest.mark.parametrize(
    "place", ["advbench/data/train-00000-of-00001.csv", "advbench.csv", "other.csv"]
)
def test_a_local_copy_is_found(place: str, tmp_path: Path) -> None:
    name = "harmful_behaviors.csv" if place == "other.csv" else place
    path = write_csv(tmp_path / name, [{"goal": f"Do {at}", "target": "Sure"} for at in range(4)])
    if place.startswith("advbench/"):
        path = path.rename(tmp_path / "advbench" / path.name)
    spec = f"advbench:{path}" if place == "other.csv" else "advbench"
    suite = load(f"{spec}?forms=plain,list", tmp_path)
    assert len(suite.cases) == 8 and suite.expected == 1040
    assert {case.label for case in suite.cases} == {"harmful"}
    assert suite.cases[0].request == "Do 0."


def test_rows_outside_the_protocol_are_left_out(tmp_path: Path) -> None:
    rows = [{"Behavior": kind, "FunctionalCategory": kind} for kind in ("standard", "copyright")]
    suite = load(f"harmbench:{write_csv(tmp_path / 'all.csv', rows)}")
    assert [case.request for case in suite.cases] == ["standard"]


def test_a_known_name_with_other_bytes_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "x", "type": "homonyms"}]
    path = write_csv(tmp_path / "completions_llama2new.csv", rows)
    with pytest.raises(EvaluationError, match="other bytes"):
        load(f"xstest:{path}")
    assert "completions_llama2new.csv" in known_digests()


def test_the_hub_is_asked_at_the_pinned_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    path = write_csv(tmp_path / "snapshots" / "abc" / "or.csv", [{"prompt": "x", "category": "y"}])

    class Hub:
        @staticmethod
        def hf_hub_download(repo: str, file: str, repo_type: str, revision: str) -> str:
            asked.append((repo, file, repo_type, revision))
            return str(path)

    replace_hub(monkeypatch, Hub)
    suite = load("or-bench-hard")
    known = PUBLIC_SETS["or-bench-hard"]
    assert asked == [(known.repo, known.files[0], "dataset", known.revision)]
    assert suite.sources[0].revision == "abc"
    assert suite.cases[0].label == "borderline"


def test_multiple_choice(tmp_path: Path) -> None:
    row = {"question": "Two and two?", "choices": ["3", "4", "5"], "answer": 1}
    (case,) = load(f"mmlu:{write_jsonl(tmp_path / 'mmlu.jsonl', [row])}").cases
    assert case.expected == Choice("B", ("3", "4", "5")) and case.label == "harmless"
    assert "A. 3\nB. 4\nC. 5\n" in case.request


def test_images_in_columns_of_a_parquet_file(tmp_path: Path) -> None:
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    for file in PUBLIC_SETS["mm-safetybench"].files:
        image = None if "Text_only" in file else {"bytes": PNG, "path": "a.png"}
        path = tmp_path / "mm-safetybench" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist([{"question": "Do it", "image": image}]), path)
    suite = load("mm-safetybench", tmp_path)
    forms = Counter(case.form for case in suite.cases)
    assert forms == {"SD": 8, "SD_TYPO": 8, "TYPO": 8, "Text_only": 8}
    image_case = next(case for case in suite.cases if case.form == "SD")
    url = image_case.messages[0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == PNG
    assert image_case.request == "[image_url]\nDo it"


def test_media_in_files(tmp_path: Path) -> None:
    root = tmp_path / "omni-safetybench"
    row = {"text": "Do what both say.", "image_path": "m/a.png", "audio_path": "m/a.mp3"}
    for file in PUBLIC_SETS["omni-safetybench"].files:
        write_jsonl(root / file, [row])
    (root / "m").mkdir()
    (root / "m" / "a.png").write_bytes(PNG)
    (root / "m" / "a.mp3").write_bytes(b"sound")
    suite = load("omni-safetybench", tmp_path)
    assert len(suite.cases) == len({case.form for case in suite.cases}) == 24
    kinds = [part["type"] for part in suite.cases[0].messages[0]["content"]]
    assert kinds == ["image_url", "input_audio", "text"]
    (root / "m" / "a.mp3").unlink()
    with pytest.raises(SuiteUnavailableError, match=r"a\.mp3"):
        load("omni-safetybench", tmp_path)


def test_a_medium_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    row = {"question": "x", "video_path": "../secret.png"}
    path = write_jsonl(tmp_path / "set" / "harmful_data.jsonl", [row])
    with pytest.raises(EvaluationError, match="outside"):
        load(f"video-safetybench:{path}")


def test_figstep_images_are_found_by_topic_and_task(tmp_path: Path) -> None:
    root = tmp_path / "figstep"
    rows = [
        {"dataset": "ForbidQI", "category_id": topic, "task_id": 1, "instruction": "Steps."}
        for topic in (1, 7, 8)
    ]
    write_csv(root / "data/question/safebench.csv", rows)
    for topic in (1, 7):
        image = root / f"data/images/SafeBench/query_ForbidQI_{topic}_1_6.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(PNG)
    suite = load("figstep", tmp_path)
    assert len(suite.cases) == 2
    assert [part["type"] for part in suite.cases[0].messages[0]["content"]] == ["image_url", "text"]


@pytest.mark.parametrize("half", ["open", "closed", "sealed"])
def test_unseen_families_are_asked_as_the_conversations_that_they_are(half: str) -> None:
    suite = load(f"unseen:{half}")
    assert suite.name == f"unseen:{half}" and suite.cases == load(f"unseen:{half}").cases
    cells = Counter((case.form, case.label) for case in suite.cases)
    families = {form for form, _ in cells} - {"borderline"}
    assert len(families) == 8 and {label for _, label in cells} == {
        "harmful",
        "harmless",
        "borderline",
    }
    for family in families:
        assert min(cells[family, "harmful"], cells[family, "harmless"]) >= 30
    several = [case for case in suite.cases if len(case.messages) > 1]
    assert len({case.form for case in several}) >= 2
    for case in suite.cases:
        roles = [message["role"] for message in case.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_a_limit_of_an_unseen_half_is_even_over_families() -> None:
    counts = Counter((case.form, case.label) for case in load("unseen:open", limit=34).cases)
    assert len(counts) == 17 and set(counts.values()) == {2}


@pytest.mark.parametrize("text", ["unseen", "unseen:both", "unseen:open?forms=plain"])
def test_an_unseen_half_has_a_name_and_no_options(text: str) -> None:
    with pytest.raises(EvaluationError, match="unseen:open, unseen:closed and unseen:sealed"):
        load(text)
