"""The settings of one evaluation run, and the arms that they ask for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.endpoint import Access
from refusal_steering.evaluation.scoring.outcome import Arm
from refusal_steering.evaluation.suites.suites import Suite

UNSTEERED = "off"


@dataclass(frozen=True, slots=True)
class Settings:
    """``policies`` are of the server under test; ``off`` is added as their baseline.

    ``system_prompt`` is one more arm: the baseline with that text before every request.
    ``again`` is another, the baseline once more: what differs there differs by itself, such as by
    the company in a batch. ``judge`` is the server of the judge, ``perplexity`` whether to ask
    for it at all. ``judge_media`` shows the judge the media of a request.
    """

    access: Access
    suites: tuple[str, ...]
    output: Path
    policies: tuple[str, ...] = ()
    system_prompt: str | None = None
    limit: int | None = None
    max_tokens: int = 256
    judge: Access | None = None
    judge_media: bool = False
    perplexity: bool = True
    again: bool = False
    data_dir: Path | None = None
    markdown: Path | None = None

    def __post_init__(self) -> None:
        if not self.suites:
            raise EvaluationError("no suite is named; add --suite")
        if self.max_tokens < 1 or self.access.concurrency < 1:
            raise EvaluationError("max tokens and concurrency must be 1 or more")
        if self.system_prompt is not None and not self.system_prompt.strip():
            raise EvaluationError("the system prompt is empty")

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The baseline first: policy ``off``, or a plain call where no policy is named."""
        base = Arm(UNSTEERED, UNSTEERED) if self.policies else Arm("plain")
        again = (replace(base, name=f"{base.name}, again"),) if self.again else ()
        names = [name for name in dict.fromkeys(self.policies) if name != UNSTEERED]
        arms = [base, *again, *(Arm(name, name) for name in names)]
        if self.system_prompt is not None:
            arms.append(Arm("system prompt", base.policy, self.system_prompt))
        return tuple(arms)

    def to_json(self, model: str, judge_model: str | None) -> dict[str, Any]:
        """For the results file; keys of the servers are left out."""
        return {
            "url": self.access.url,
            "model": model,
            "policies": list(self.policies),
            "system_prompt": self.system_prompt,
            "suites": list(self.suites),
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
