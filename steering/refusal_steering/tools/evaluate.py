"""The ``evaluate`` command: suites against any OpenAI-compatible server."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.arms.arm import DEFENCES, parse_defences
from refusal_steering.evaluation.arms.system_prompt import REFUSE_HARM_NAME, load_system_prompt
from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.papers import PAPERS, paper_named
from refusal_steering.evaluation.run import evaluate as run
from refusal_steering.evaluation.run import journal_path
from refusal_steering.evaluation.settings import Settings
from refusal_steering.evaluation.suites.suite_spec import SuiteSpec
from refusal_steering.evaluation.suites.suites import SUITES
from refusal_steering.evaluation.tables.markdown import markdown as table
from refusal_steering.tools.checks import file_out

KEY, JUDGE_KEY = "REFUSAL_SERVER_API_KEY", "REFUSAL_JUDGE_API_KEY"


def evaluate(
    url: Annotated[str, typer.Option(help="base URL, such as http://127.0.0.1:8000/v1")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the results, as JSON")],
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME[:PATH][?forms=plain,list&label=harmful], again and again; names: "
            + ", ".join(SUITES)
        ),
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(help=f"the sets, arms and table of a paper: {', '.join(PAPERS)}"),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="a steering policy of the server; 'off' is added as baseline"),
    ] = None,
    system_prompt: Annotated[
        str | None,
        typer.Option(
            help="one more arm, the baseline with a system prompt: a file's text, or "
            f"{REFUSE_HARM_NAME}, our request to refuse what is harmful"
        ),
    ] = None,
    defence: Annotated[
        list[str] | None,
        typer.Option(help=f"one more arm, the baseline defended by {' or '.join(DEFENCES)}"),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="what a bundle was made from, to be looked for in the suites: 'contrast', a "
            "bundle's folder, build.json, or a file of requests"
        ),
    ] = None,
    allow_leakage: Annotated[
        bool, typer.Option(help="go on where requests of the calibration are in a suite")
    ] = False,
    model: Annotated[str | None, typer.Option(help="the first that the server lists")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="at most so many cases of each suite")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="length of an answer; 256, or the paper's")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="requests at once")] = 8,
    timeout: Annotated[float, typer.Option(min=0.001, help="seconds for one request")] = 120.0,
    judge_url: Annotated[str | None, typer.Option(help="base URL of a judge's server")] = None,
    judge_model: Annotated[str | None, typer.Option(help="the judge's model")] = None,
    judge_media: Annotated[
        bool, typer.Option(help="show the judge the media of a request")
    ] = False,
    perplexity: Annotated[
        bool, typer.Option(help="ask for the answers' perplexity under the unsteered model")
    ] = True,
    again: Annotated[
        bool, typer.Option(help="ask the baseline twice, to see what differs by itself")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="local copies of public sets, in DIR/NAME/")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="the tables, as Markdown")] = None,
) -> None:
    """Measure refusals, over-refusals, coherence and fidelity, each with its interval.

    Keys are read from REFUSAL_SERVER_API_KEY and REFUSAL_JUDGE_API_KEY. An interrupted run goes on
    where it stopped. Ends with 1 where an arm has not one answer, or not one verdict of the judge,
    with 2 where nothing can be run.
    """
    _check_outputs((output, journal_path(output), markdown), _read_files(suite, calibration))
    if data_dir is not None and not data_dir.is_dir():
        raise EvaluationError(f"--data-dir {data_dir} is not a folder")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("refusal_steering.evaluation").setLevel(logging.INFO)
    if judge_model and not judge_url:
        raise EvaluationError("--judge-model needs --judge-url")
    if judge_media and not judge_url:
        raise EvaluationError("--judge-media needs --judge-url")
    preset = paper_named(paper) if paper else None
    results = run(
        Settings(
            Access(url, os.environ.get(KEY, "none"), model, concurrency, timeout),
            tuple(suite or ()),
            output,
            policies=tuple(policy or ()),
            system_prompt=load_system_prompt(system_prompt),
            defences=parse_defences(defence or ()),
            paper=preset,
            calibration=tuple(calibration or ()),
            allow_leakage=allow_leakage,
            limit=limit,
            max_tokens=max_tokens or (preset.max_tokens if preset else 256),
            judge=_judge(judge_url, judge_model, concurrency, timeout),
            judge_media=judge_media,
            perplexity=perplexity,
            again=again,
            data_dir=data_dir,
            markdown=markdown,
        )
    )
    typer.echo(table(results))
    judged = [row for row in results["summary"] if row["judge"]]
    failed = sum(row["failed_requests"] for row in results["summary"])
    if failed:
        typer.echo(f"{failed} requests failed; run again to ask only for those", err=True)
    unjudged = sum(row["judge"]["rulings"].get("error", 0) for row in judged)
    if unjudged:
        typer.echo(f"{unjudged} answers were not judged; run again to judge those", err=True)
    nothing = any(row["failed_requests"] == row["cases"] for row in results["summary"])
    if nothing or any(row["judge"]["rulings"].keys() <= {"error", "none"} for row in judged):
        raise typer.Exit(1)


def _check_outputs(written: Sequence[Path | None], read: Sequence[Path]) -> None:
    """No two outputs are one file, and none replaces what the run reads."""
    paths = [path for path in written if path is not None]
    for path in paths:
        file_out(path, read)
    if len({path.resolve() for path in paths}) < len(paths):
        raise EvaluationError(
            f"two of results, journal and table would both be written to {paths[-1]}"
        )


def _read_files(suites: Sequence[str] | None, calibration: Sequence[str] | None) -> list[Path]:
    specs = [SuiteSpec.parse(text).path for text in suites or ()]
    return [*(path for path in specs if path is not None), *map(Path, calibration or ())]


def _judge(url: str | None, model: str | None, concurrency: int, timeout: float) -> Access | None:
    if url is None:
        return None
    return Access(url, os.environ.get(JUDGE_KEY, "none"), model, concurrency, timeout)
