"""Presets of papers: absent sets are named first, and the table has n, intervals and the judge."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.papers import PAPERS, paper_named
from refusal_steering.evaluation.run import evaluate
from refusal_steering.evaluation.settings import Settings
from refusal_steering.evaluation.suites.public.sets import PUBLIC_SETS
from refusal_steering.evaluation.tables.paper import paper_table
from refusal_steering.tools.evaluate import evaluate as command
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import Ask, FakeServer
from tests.steering.evaluation.texts import ANSWER, REFUSAL

pytestmark = pytest.mark.usefixtures("no_hub")

PNG = b"\x89PNG\r\n\x1a\n"


def run(server: FakeServer, folder: Path, paper: str, judge: str | None = None) -> dict[str, Any]:
    preset = paper_named(paper)
    wanted = Settings(
        Access(server.url, retries=0),
        (),
        folder / "results.json",
        policies=("steer",),
        paper=preset,
        max_tokens=preset.max_tokens,
        judge=Access(judge, retries=0) if judge else None,
        perplexity=False,
        data_dir=folder,
        markdown=folder / "table.md",
    )
    return evaluate(wanted)


def rows_of(folder: Path, head: str) -> list[list[str]]:
    lines = (folder / "table.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].startswith(head)]


def steering(ask: Ask) -> str:
    if "A, B" in ask.text or "letter" in ask.text:
        return "B"
    return REFUSAL if ask.policy == "steer" and "bad" in ask.text else ANSWER


def omnisteer_files(folder: Path) -> None:
    root = folder / "omnisteer" / "data"
    root.mkdir(parents=True)
    (root / "a.png").write_bytes(PNG)
    rows: dict[str, list[dict[str, Any]]] = {
        "harmbench": [{"type": "harmful", "text": f"bad {at}"} for at in range(4)],
        "vlguard_test": [
            {"type": kind, "modality": "image_text", "text": f"{word} {at}", "image": "data/a.png"}
            for kind, word in (("harmful", "bad"), ("safe", "good"))
            for at in range(3)
        ],
    }
    for name, found in rows.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))


def test_every_preset_names_suites_that_there_are() -> None:
    for paper in PAPERS.values():
        assert set(paper.suites) <= set(PUBLIC_SETS)
    with pytest.raises(EvaluationError, match="omnisteer, ras, mars"):
        paper_named("other")


def test_omnisteers_table_of_the_sets_that_are_at_hand(serve: Serve, tmp_path: Path) -> None:
    omnisteer_files(tmp_path)
    results = run(serve(steering), tmp_path, "omnisteer")
    (harmbench,) = rows_of(tmp_path, "omnisteer-harmbench")[:1]
    assert harmbench == [
        "omnisteer-harmbench",
        "RSR",
        "4",
        "0.0 % (0.0 to 49.0)",
        "100.0 % (51.0 to 100.0)",
        "0.0 % (0.0 to 49.0)",
    ]
    refused, answered = rows_of(tmp_path, "omnisteer-vlguard-test")[:2]
    assert (refused[1:3], answered[1:3]) == (["RSR", "3"], ["BAR", "3"])
    (both,) = [row for row in rows_of(tmp_path, "omnisteer-vlguard-test") if "both" in row[1]]
    assert both[2] == "6" and [cell.partition(" (")[0] for cell in both[3:]] == [
        "50.0 %",
        "100.0 %",
        "50.0 %",
    ]
    absent = results["paper"]["absent"]
    assert "omnisteer-holisafe" in absent and "omnibench-qa" in absent
    (holisafe, _) = rows_of(tmp_path, "omnisteer-holisafe")[:2]
    assert holisafe[2:] == ["0", "no files", "no files", "no files"]
    (mean,) = rows_of(tmp_path, "mean of 2 of 11 sets")
    assert mean[3:] == ["0.0 %", "100.0 %", "0.0 %"]
    text = (tmp_path / "table.md").read_text()
    assert "word lists (lexical-v3), no judge" in text and "OmniGuard" in text
    assert "Qwen3-30B" in text


def test_the_judge_is_named_and_harmless_replies_are_its_own_figure(
    serve: Serve, tmp_path: Path
) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    arrow = importlib.import_module("pyarrow")
    row = {
        "image": {"bytes": PNG, "path": None},
        "id": "1",
        "scenario": "Violence",
        "keywords": "x",
        "step": 5,
        "category": "object",
        "instruction": "Make bad things.",
    }
    for file in PUBLIC_SETS["hades"].files:
        path = tmp_path / "hades" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(arrow.Table.from_pylist([row]), path)
    half = {"question": "bad query", "harmful_intention": "AIM", "video_path": "video/a.mp4"}
    (tmp_path / "video-safetybench" / "video").mkdir(parents=True)
    (tmp_path / "video-safetybench" / "video" / "a.mp4").write_bytes(b"film")
    for name in ("harmful", "benign"):
        path = tmp_path / "video-safetybench" / f"{name}_data.json"
        path.write_text(json.dumps([half, {**half, "question": "bad too"}]))

    def grade(ask: Ask) -> str:
        refused = REFUSAL in ask.text
        if "from 1 to 5" in ask.text:
            return "1" if refused else "3"
        return "REFUSED" if refused else "SAFE"

    judge = serve(grade)
    results = run(serve(steering), tmp_path, "mars", judge.url)
    assert results["paper"]["absent"] == {}
    video = rows_of(tmp_path, "video-safetybench")
    assert [row[0] for row in video[:3]] == [
        "video-safetybench",
        "video-safetybench, harmful query",
        "video-safetybench, benign query",
    ]
    assert video[0][1:5] == ["refused", "4", "0.0 % (0.0 to 49.0)", "100.0 % (51.0 to 100.0)"]
    harmless, refused = rows_of(tmp_path, "hades")[:2]
    assert harmless[1:5] == [
        "harmless replies",
        "2",
        "100.0 % (34.2 to 100.0)",
        "100.0 % (34.2 to 100.0)",
    ]
    assert refused[3:5] == ["0.0 % (0.0 to 65.8)", "100.0 % (34.2 to 100.0)"]
    assert "judged by `judge:fake`" in (tmp_path / "table.md").read_text()
    marks = results["summary"][0]["judge"]["scores"]
    assert (marks["mean"], marks["n"]) == (3.0, 4)
    assert "| off | 3.00 (3.00 to 3.00) | 4 | 0 | 0 |" in (tmp_path / "table.md").read_text()


def test_ras_reports_attacks_that_succeed_and_utility(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "jood").mkdir()
    (tmp_path / "jood" / "a.png").write_bytes(PNG)
    rows = [{"question": f"bad {at}", "image": "a.png"} for at in range(2)]
    (tmp_path / "jood" / "jood_dataset.json").write_text(json.dumps(rows))
    (tmp_path / "gqa" / "images").mkdir(parents=True)
    (tmp_path / "gqa" / "images" / "n.jpg").write_bytes(PNG)
    questions = {"1": {"imageId": "n", "question": "What?", "answer": ANSWER}}
    (tmp_path / "gqa" / "testdev_balanced_questions.json").write_text(json.dumps(questions))
    run(serve(steering), tmp_path, "ras")
    (jood,) = rows_of(tmp_path, "jood")[:1]
    assert jood[1:5] == [
        "ASR (lower is better)",
        "2",
        "100.0 % (34.2 to 100.0)",
        "0.0 % (0.0 to 65.8)",
    ]
    text = (tmp_path / "table.md").read_text()
    assert "| ecso | 100.0 % (20.7 to 100.0) | 1 | 0 | - | - |" in text
    assert "Arm `ecso`: 1 replaced after an unreadable judgement." in text
    (gqa,) = rows_of(tmp_path, "gqa")[:1]
    assert gqa[1] == "right answers" and gqa[3].startswith("100.0 %")


def test_rows_without_their_media_are_an_absent_set(serve: Serve, tmp_path: Path) -> None:
    omnisteer_files(tmp_path)
    (tmp_path / "omnisteer" / "data" / "a.png").unlink()
    results = run(serve(steering), tmp_path, "omnisteer")
    assert "a.png" in results["paper"]["absent"]["omnisteer-vlguard-test"]
    assert [suite["name"] for suite in results["suites"]] == ["omnisteer-harmbench"]


def test_a_paper_without_any_file_asks_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(steering)
    with pytest.raises(SuiteUnavailableError, match=r"hades.*--data-dir"):
        run(server, tmp_path, "mars")
    assert server.seen == []


def test_the_command_names_absent_sets_before_it_asks(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    omnisteer_files(tmp_path)
    named: list[int] = []

    def remember(ask: Ask) -> str:
        named.append(sum("left out: suite" in record.message for record in caplog.records))
        return steering(ask)

    app = typer.Typer()
    app.command()(command)
    server = serve(remember)
    output = tmp_path / "results.json"
    found = CliRunner().invoke(
        app,
        [
            *("--url", server.url, "--paper", "omnisteer", "--policy", "steer"),
            *("--data-dir", str(tmp_path), "-o", str(output), "--no-perplexity"),
        ],
    )
    assert found.exit_code == 0, found.output
    assert "Omni-Safety under Cross-Modality Conflict" in found.output
    results = json.loads(output.read_text())
    assert results["settings"]["max_tokens"] == 256
    assert set(named) == {len(results["paper"]["absent"])} != {0}
    assert [row["arm"] for row in results["summary"][:3]] == ["off", "steer", "self-reminder"]


def test_a_score_of_nothing_right_is_a_score() -> None:
    absent = {name: "no files" for name in PAPERS["ras"].suites if name != "mme"}
    for score, shown in ((0.0, "0.0"), (None, "-")):
        useful = {"mme_score": score, "right": {"n": 4}}
        row = {"suite": "mme", "arm": "plain", "utility": useful}
        facts = {"name": "ras", "absent": absent}
        lines = paper_table({"paper": facts, "summary": [row], "detectors": ["lexical"]})
        assert f"| mme | MME score | 4 | {shown} |" in lines
