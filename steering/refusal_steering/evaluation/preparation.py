"""What a run does before its first request: its suites, absent sets of a paper, and leaks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.leakage.calibration import read_calibration
from refusal_steering.evaluation.leakage.check import leaks, summary
from refusal_steering.evaluation.papers import Paper
from refusal_steering.evaluation.settings import Settings
from refusal_steering.evaluation.suites.suite_spec import SuiteSpec
from refusal_steering.evaluation.suites.suites import Suite, load_suite

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before the first request.

    ``absent`` are the sets of a paper without files, with the reason; ``leaks`` is ``None`` where
    no calibration was named.
    """

    suites: list[Suite]
    absent: dict[str, str]
    leaks: dict[str, Any] | None

    def to_json(self, paper: Paper | None) -> dict[str, Any]:
        """For the results file, without the suites."""
        facts = {"name": paper.name, "absent": self.absent} if paper else None
        return {"paper": facts, "leakage": self.leaks}


def prepare(settings: Settings) -> Prepared:
    """Load the suites and look for leaks.

    A set of a paper whose files are not there is left out and named, any other missing suite is an
    error. Raises :class:`EvaluationError`.
    """
    suites, absent = _load(settings)
    if not settings.calibration:
        return Prepared(suites, absent, None)
    found = summary(leaks(suites, read_calibration(settings.calibration)))
    leaked = {name: facts for name, facts in found.items() if facts["cases"]}
    for name, facts in leaked.items():
        _log.warning("%s: %d cases were in the calibration: %s", name, *_leaked(facts))
    if leaked and not settings.allow_leakage:
        total = sum(facts["cases"] for facts in leaked.values())
        raise EvaluationError(
            f"{total} cases of {', '.join(leaked)} were in the calibration (first: "
            f"{next(iter(leaked.values()))['ids'][0]}); leave them out, or go on with "
            "--allow-leakage"
        )
    return Prepared(suites, absent, found)


def _leaked(facts: Mapping[str, Any]) -> tuple[int, str]:
    return facts["cases"], ", ".join(f"{count} {kind}" for kind, count in facts["matches"].items())


def _load(settings: Settings) -> tuple[list[Suite], dict[str, str]]:
    """The suites of a run, each name once, and the paper's that are not at hand."""
    suites, absent = [], {}
    for text in settings.asked_suites:
        try:
            suites.append(load_suite(SuiteSpec.parse(text), settings.data_dir, settings.limit))
        except SuiteUnavailableError as error:
            if text in settings.suites:
                raise
            _log.warning("left out: %s", error)
            absent[text] = str(error)
    if not suites:
        raise SuiteUnavailableError(
            f"no set of this paper has files here: {', '.join(absent)}; name their folder with "
            "--data-dir"
        )
    names = [suite.name for suite in suites]
    if twice := {name for name in names if names.count(name) > 1}:
        raise EvaluationError(f"suite {sorted(twice)[0]!r} is named more than once")
    for suite in suites:
        for source in suite.sources:
            _log.info("%s: %s sha256 %s (%s)", suite.name, *_facts(source.to_json()))
    return suites, absent


def _facts(source: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(source[key] for key in ("name", "sha256", "checksum"))
