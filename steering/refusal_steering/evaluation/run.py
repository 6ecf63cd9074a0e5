"""Runs every case under every arm, and writes what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from refusal_steering.atomic_file import write_atomically
from refusal_steering.evaluation.arms.arm import Arm
from refusal_steering.evaluation.arms.ask import ask
from refusal_steering.evaluation.case import Case
from refusal_steering.evaluation.endpoint import Endpoint
from refusal_steering.evaluation.journal import Journal
from refusal_steering.evaluation.preparation import Prepared, prepare
from refusal_steering.evaluation.results import collect
from refusal_steering.evaluation.scoring.coherence import Perplexity, PerplexityMeter
from refusal_steering.evaluation.scoring.judge import Judge
from refusal_steering.evaluation.scoring.outcome import Outcome
from refusal_steering.evaluation.scoring.rubric_name import RubricName
from refusal_steering.evaluation.settings import Settings, fingerprint
from refusal_steering.evaluation.suites.suites import Suite
from refusal_steering.evaluation.tables.markdown import markdown

Work = list[tuple[Arm, Case]]


def evaluate(settings: Settings) -> dict[str, Any]:
    """Run to the end and write the results file, and the table where one is asked for.

    Goes on where an interrupted run stopped. Raises :class:`EvaluationError` for settings that
    cannot be run; failed requests are counted in the results instead.
    """
    prepared = prepare(settings)
    return asyncio.run(_evaluate(settings, prepared))


def journal_path(output: Path) -> Path:
    """Where finished answers lie until the run is over."""
    return output.with_name(output.name + ".answers.jsonl")


async def _evaluate(settings: Settings, prepared: Prepared) -> dict[str, Any]:
    suites = prepared.suites
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(Endpoint(settings.access))
        judge = None
        if settings.judge is not None:
            server = await stack.enter_async_context(Endpoint(settings.judge))
            judge = Judge(server, settings.judge_media)
        meter = None
        if settings.perplexity:
            meter = PerplexityMeter(endpoint, settings.arms[0].policy)
        facts = settings.to_json(endpoint.model, judge.model if judge else None)
        journal = Journal(journal_path(settings.output), fingerprint(facts, suites))
        with journal:
            asker = _Asker(endpoint, judge, meter, settings.max_tokens, journal)
            outcomes = await asker.run(settings.arms, suites)
    found = prepared.to_json(settings.paper)
    results = collect(facts, settings.arms, suites, outcomes, judge.name if judge else None, found)
    text = json.dumps(results, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    write_atomically(settings.output, text.encode())
    if settings.markdown is not None:
        write_atomically(settings.markdown, markdown(results).encode())
    if not any(outcome.errors for outcome in outcomes):
        journal.path.unlink()
    return results


class _Asker:
    """Asks for one case at a time, many at once; the endpoints hold the bounds."""

    def __init__(
        self,
        endpoint: Endpoint,
        judge: Judge | None,
        meter: PerplexityMeter | None,
        max_tokens: int,
        journal: Journal,
    ) -> None:
        self._endpoint = endpoint
        self._judge = judge
        self._meter = meter
        self._max_tokens = max_tokens
        self._journal = journal
        self._rubrics: dict[str, RubricName] = {}

    async def run(self, arms: Sequence[Arm], suites: Sequence[Suite]) -> list[Outcome]:
        """Outcomes of all arms and cases, those of the journal among them."""
        done = {(outcome.arm, *outcome.key): outcome for outcome in self._journal.finished}
        work = [(arm, case) for arm in arms for suite in suites for case in suite.cases]
        self._rubrics = {suite.name: suite.rubric for suite in suites}
        left = [(arm, case) for arm, case in work if (arm.name, *case.key) not in done]
        fresh = await self._ask_all(left, len(work))
        done |= {(outcome.arm, *outcome.key): outcome for outcome in fresh}
        return [done[arm.name, *case.key] for arm, case in work]

    async def _ask_all(self, work: Work, total: int) -> list[Outcome]:
        with tqdm(total=total, initial=total - len(work), unit="answer", disable=None) as bar:
            queue = iter(work)
            outcomes: list[Outcome] = []

            async def worker() -> None:
                for arm, case in queue:
                    outcome = await self._ask(arm, case)
                    self._journal.add(outcome)
                    outcomes.append(outcome)
                    bar.update()

            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(work), self._endpoint.access.concurrency)):
                    group.create_task(worker())
        return outcomes

    async def _ask(self, arm: Arm, case: Case) -> Outcome:
        reply = await ask(self._endpoint, arm, case, self._max_tokens)
        judgement, perplexity = None, Perplexity("off")
        if reply.text is not None:
            if self._judge is not None:
                judgement = await self._judge(case, reply.text, self._rubrics[case.suite])
            if self._meter is not None:
                perplexity = await self._meter(case, reply.text)
        return Outcome(arm.name, case.suite, case.id, reply, judgement, perplexity)
