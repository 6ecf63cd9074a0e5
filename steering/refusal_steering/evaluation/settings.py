"""The settings of one evaluation run, and the arms that they ask for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.arms.arm import Arm, Defence
from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.papers import Paper
from refusal_steering.evaluation.suites.suites import Suite

UNSTEERED = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """``policies`` are of the server under test; ``off`` is added as their baseline.

    ``system_prompt`` is one more arm: the baseline with that text before every request.
    ``defences`` are arms too, the baseline defended. ``paper`` adds its suites and defences.
    ``calibration`` names what a bundle was made from, to be looked for in the suites; a case that
    is found stops the run unless ``allow_leakage``. ``again`` is another arm, the baseline once
    more: what differs there differs by itself, such as by the company in a batch. ``judge`` is the
    server of the judge, which ``judge_media`` shows the media of a request; ``perplexity`` is
    whether to ask for it at all.
    """

    access: Access
    suites: tuple[str, ...]
    output: Path
    policies: tuple[str, ...] = ()
    system_prompt: str | None = None
    defences: tuple[Defence, ...] = ()
    paper: Paper | None = None
    calibration: tuple[str, ...] = ()
    allow_leakage: bool = False
    limit: int | None = None
    max_tokens: int = 256
    judge: Access | None = None
    judge_media: bool = False
    perplexity: bool = True
    again: bool = False
    data_dir: Path | None = None
    markdown: Path | None = None

    def __post_init__(self) -> None:
        if not self.suites and self.paper is None:
            raise EvaluationError("no suite is named; add --suite or --paper")
        if self.allow_leakage and not self.calibration:
            raise EvaluationError("--allow-leakage needs --calibration, which looks for leaks")
        if self.max_tokens < 1 or self.access.concurrency < 1:
            raise EvaluationError("max tokens and concurrency must be 1 or more")
        if self.system_prompt is not None and not self.system_prompt.strip():
            raise EvaluationError("the system prompt is empty")
        try:
            "".join((*self.policies, *self.suites, *self.calibration)).encode()
        except UnicodeEncodeError as error:
            near = error.object[max(0, error.start - 40) : error.end + 40]
            raise EvaluationError(f"{near!r} is not UTF-8; rename it") from error
        names = [arm.name for arm in self.arms]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise EvaluationError(f"a policy is named {twice!r} like another arm; rename it")

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The baseline first: policy ``off``, or a plain call where no policy is named."""
        base = Arm(UNSTEERED, UNSTEERED) if self.policies else Arm("plain")
        again = (replace(base, name=f"{base.name}, again"),) if self.again else ()
        names = [name for name in dict.fromkeys(self.policies) if name != UNSTEERED]
        arms = [base, *again, *(Arm(name, name) for name in names)]
        if self.system_prompt is not None:
            arms.append(Arm("system prompt", base.policy, self.system_prompt))
        defences = (*self.defences, *(self.paper.defences if self.paper else ()))
        arms += [Arm(name, base.policy, defence=name) for name in dict.fromkeys(defences)]
        return tuple(arms)

    @property
    def asked_suites(self) -> tuple[str, ...]:
        """The suites that are named, and those of the paper, each once."""
        return tuple(dict.fromkeys((*self.suites, *(self.paper.suites if self.paper else ()))))

    def to_json(self, model: str, judge_model: str | None) -> dict[str, Any]:
        """For the results file; keys of the servers are left out."""
        return {
            "url": self.access.url,
            "model": model,
            "policies": list(self.policies),
            "system_prompt": self.system_prompt,
            "defences": [arm.defence for arm in self.arms if arm.defence],
            "paper": self.paper.name if self.paper else None,
            "suites": list(self.suites),
            "calibration": list(self.calibration),
            "limit": self.limit,
            "max_tokens": self.max_tokens,
            "temperature": 0.0,
            "judge": {"url": self.judge.url, "model": judge_model} if self.judge else None,
            "judge_media": self.judge_media,
            "perplexity": self.perplexity,
        }


def fingerprint(settings: dict[str, Any], suites: list[Suite]) -> str:
    """Names everything that an answer depends on: a journal fits only the same."""
    facts = [settings, [suite.to_json() for suite in suites]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
