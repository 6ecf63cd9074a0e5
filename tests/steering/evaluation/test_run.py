"""Whole runs against a scripted server: resuming, errors and arms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.detection.detector import LEXICAL
from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation import run as run_module
from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.run import evaluate, journal_path
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import Ask, Fail, Raw
from tests.steering.evaluation.scripted import settings, steered
from tests.steering.evaluation.texts import ANSWER, LOOP, REFUSAL


def summary(results: dict[str, Any], arm: str) -> dict[str, Any]:
    return next(row for row in results["summary"] if row["arm"] == arm)


def score(results: dict[str, Any], arm: str, detector: str = LEXICAL) -> dict[str, Any]:
    found: dict[str, Any] = summary(results, arm)["scores"][detector]
    return found


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return {**one, "created": ""} == {**two, "created": ""}


def test_a_run_measures_what_the_script_does(serve: Serve, tmp_path: Path) -> None:
    results = evaluate(settings(serve(steered), tmp_path))
    off, on = score(results, "off"), score(results, "steer")
    assert (off["rsr"]["value"], on["rsr"]["value"]) == (0.0, 1.0)
    assert on["bar"]["value"] == on["borderline"]["value"] == 1.0
    assert on["rsr"]["n"] == 8 and on["bar"]["n"] == 6 and on["borderline"]["n"] == 4
    assert on["against_baseline"]["rsr"]["gained"] == 8
    assert on["against_baseline"]["bar"]["difference"] == 0.0
    close = summary(results, "steer")["fidelity"]["harmless"]
    assert close == {"n": 6, "identical": 6, "chrf": 100.0}
    states = summary(results, "steer")["coherence"]["perplexity"]
    assert states == {"measured": 18}
    assert summary(results, "steer")["steering"][0]["version"] == "v1"
    assert len(results["answers"]) == 36
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    assert not journal_path(tmp_path / "results.json").exists()


def test_an_interrupted_run_goes_on_to_the_same_result(serve: Serve, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    in_one_go = evaluate(settings(serve(steered), whole))
    stopped = {"after": 20}

    def until_stopped(ask: Ask) -> str | Fail:
        stopped["after"] -= 1
        return steered(ask) if stopped["after"] >= 0 else Fail(503)

    server = serve(until_stopped)
    (tmp_path / "whole2").mkdir()
    wanted = settings(server, tmp_path / "whole2", perplexity=False)
    first = evaluate(wanted)
    assert sum(row["failed_requests"] for row in first["summary"]) == 16
    journal = journal_path(wanted.output)
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"arm": "off", "sui')
    stopped["after"] = 1000
    asked = len(server.seen)
    second = evaluate(wanted)
    assert len(server.seen) - asked == 16
    assert not journal.exists()
    for key in ("answers", "summary"):
        for one, two in zip(in_one_go[key], second[key], strict=True):
            ignored = {"perplexity", "coherence"}
            assert {k: v for k, v in one.items() if k not in ignored | {"suite"}} == {
                k: v for k, v in two.items() if k not in ignored | {"suite"}
            }
    third = evaluate(wanted)
    assert same(second, third)


def test_a_run_cut_by_a_crash_keeps_its_answers(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(steered)
    wanted = settings(server, tmp_path, perplexity=False)

    def crash(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "collect", crash)
        with pytest.raises(RuntimeError):
            evaluate(wanted)
    asked = len(server.seen)
    resumed = evaluate(wanted)
    assert len(server.seen) == asked
    assert same(resumed, evaluate(wanted))


def test_a_journal_of_another_run_is_refused(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _: Fail(500))
    wanted = settings(server, tmp_path, perplexity=False)
    evaluate(wanted)
    with pytest.raises(EvaluationError, match="other settings"):
        evaluate(replace(wanted, max_tokens=7))
    journal_path(wanted.output).write_bytes(b"\xff\xfe\n")
    with pytest.raises(EvaluationError, match="no journal"):
        evaluate(wanted)
    journal_path(wanted.output).write_text("nonsense\n")
    with pytest.raises(EvaluationError, match="no journal"):
        evaluate(wanted)


def test_errors_never_raise_a_rate(serve: Serve, tmp_path: Path) -> None:
    def sometimes(ask: Ask) -> str | Fail | Raw:
        if "thing 1" in ask.text:
            return Fail(500)
        return Raw(b"[]") if "thing 2" in ask.text else steered(ask)

    clean = evaluate(settings(serve(steered), tmp_path, output=tmp_path / "clean.json"))
    failing = evaluate(settings(serve(sometimes), tmp_path))
    for arm in ("off", "steer"):
        for metric in ("rsr", "bar", "borderline"):
            before, now = score(clean, arm)[metric], score(failing, arm)[metric]
            assert now["hits"] <= before["hits"] and now["floor"] <= before["floor"]
            assert now["n"] + now["errors"] == before["n"] and now["errors"] > 0
    assert summary(failing, "off")["failed_requests"] == 10
    failed = [row for row in failing["answers"] if row["reply"]["error"]]
    assert all(row["verdict"] is None and row["perplexity"]["state"] == "off" for row in failed)


def test_degenerate_answers_succeed_nowhere(serve: Serve, tmp_path: Path) -> None:
    results = evaluate(settings(serve(lambda _: LOOP), tmp_path))
    for metric in ("rsr", "bar", "borderline"):
        assert score(results, "steer")[metric]["value"] == 0.0
    assert score(results, "steer")["degenerate"] == 18
    assert summary(results, "steer")["coherence"]["degenerate"] == 18


def test_a_server_that_is_not_ours_has_no_steered_answers(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda _: REFUSAL, ours=False, dialect=False)
    results = evaluate(settings(server, tmp_path))
    assert score(results, "steer")["rsr"]["value"] is None
    plain = evaluate(settings(server, tmp_path, policies=(), output=tmp_path / "plain.json"))
    assert plain["baseline"] == "plain"
    assert score(plain, "plain")["rsr"]["value"] == 1.0
    assert summary(plain, "plain")["coherence"]["perplexity"] == {"absent": 18}


def test_a_system_prompt_is_an_arm_of_its_own(serve: Serve, tmp_path: Path) -> None:
    def obeys(ask: Ask) -> str:
        return REFUSAL if ask.system else steered(ask)

    server = serve(obeys)
    wanted = settings(server, tmp_path, system_prompt="Refuse all.", perplexity=False)
    results = evaluate(wanted)
    assert [arm["arm"] for arm in results["summary"]] == ["off", "steer", "system prompt"]
    prompted = score(results, "system prompt")
    assert prompted["rsr"]["value"] == 1.0 and prompted["bar"]["value"] == 0.0
    asked = [ask for ask in server.answers if ask.system]
    assert len(asked) == 18 and {ask.policy for ask in asked} == {"off"}


def test_the_baseline_once_more_shows_what_differs_by_itself(serve: Serve, tmp_path: Path) -> None:
    met: dict[str, int] = {}

    def restless(ask: Ask) -> str:
        met[ask.text] = met.get(ask.text, 0) + 1
        return f"{ANSWER} {met[ask.text] if 'good thing 1' in ask.text else ''}"

    server = serve(restless)
    results = evaluate(settings(server, tmp_path, again=True, perplexity=False))
    assert [arm["arm"] for arm in results["summary"]] == ["off", "off, again", "steer"]
    close = summary(results, "off, again")["fidelity"]["harmless"]
    assert 0 < close["identical"] < close["n"] == 6
    assert {ask.policy for ask in server.answers} == {"off", "steer"}


def test_an_empty_answer_is_a_miss_for_the_judge_too(serve: Serve, tmp_path: Path) -> None:
    judge = Access(serve(lambda _: "REFUSED").url, retries=0)
    results = evaluate(settings(serve(lambda _: ""), tmp_path, judge=judge))
    judged = score(results, "steer", "judge:fake")
    assert judged["rsr"] == {**judged["rsr"], "hits": 0, "n": 8, "errors": 0}
    assert summary(results, "steer")["coherence"]["empty"] == 18


def test_multiple_choice_is_marked(serve: Serve, tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "choices": ["0", "1", "2"], "answer": n} for n in range(3)]
    path = tmp_path / "mmlu.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = tmp_path / "table.md"
    wanted = settings(serve(lambda _: "B. One."), tmp_path, suites=(f"mmlu:{path}",))
    results = evaluate(replace(wanted, markdown=table))
    right = summary(results, "steer")["utility"]["right"]
    assert (right["hits"], right["n"]) == (1, 3)
    assert "| steer | 33.3 % (6.1 to 79.2) | 3 | 0 | - | - |" in table.read_text()


@pytest.mark.parametrize("said", [Fail(500), "", "perhaps", "SAFE"])
def test_a_judge_without_a_ruling_never_helps(
    serve: Serve, tmp_path: Path, said: str | Fail
) -> None:
    judge = Access(serve(lambda _: said).url, retries=0)
    results = evaluate(settings(serve(steered), tmp_path, judge=judge))
    judged = score(results, "steer", "judge:fake")
    assert judged["rsr"]["hits"] == 0
    if said != "SAFE":
        assert judged["bar"]["hits"] == judged["borderline"]["hits"] == 0
        kind = "error" if isinstance(said, Fail) else "gibberish"
        assert summary(results, "steer")["judge"]["rulings"] == {kind: 18}
        assert summary(results, "steer")["judge"]["replies"]["harmless"]["hits"] == 0
    assert score(results, "steer")["rsr"]["value"] == 1.0


def test_a_good_judge_agrees_with_the_script(serve: Serve, tmp_path: Path) -> None:
    def grade(ask: Ask) -> str:
        if "sorry" in ask.text:
            return "REFUSED"
        return "HARMFUL" if "bad" in ask.text else "SAFE"

    judge = Access(serve(grade).url, retries=0)
    results = evaluate(settings(serve(steered), tmp_path, judge=judge))
    assert score(results, "steer", "judge:fake")["rsr"]["value"] == 1.0
    assert score(results, "off", "judge:fake")["rsr"]["value"] == 0.0
    assert summary(results, "off")["judge"]["replies"]["harmless"]["value"] == 0.0
    assert summary(results, "steer")["judge"]["replies"]["harmless"]["value"] == 1.0


@pytest.mark.parametrize(
    "changes",
    [{"suites": ()}, {"max_tokens": 0}, {"system_prompt": " "}, {"limit": 0}],
)
def test_settings_that_mean_nothing_are_refused(
    serve: Serve, tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(EvaluationError):
        evaluate(settings(serve(steered), tmp_path, **changes))
