"""All that is known of one case under one arm of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from refusal_steering.evaluation.endpoint import Reply
from refusal_steering.evaluation.scoring.coherence import Perplexity
from refusal_steering.evaluation.scoring.judgement import Judgement


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reply to one case, and what judge and perplexity said of it; ``None`` without a judge."""

    arm: str
    suite: str
    id: str
    reply: Reply
    judgement: Judgement | None
    perplexity: Perplexity

    @property
    def key(self) -> tuple[str, str]:
        """Suite and id, as :attr:`Case.key`."""
        return self.suite, self.id

    @property
    def errors(self) -> tuple[str, ...]:
        """What went wrong, on either server; empty for a finished case."""
        judged = self.judgement.error if self.judgement else None
        measured = self.perplexity.reason if self.perplexity.state == "error" else None
        return tuple(error for error in (self.reply.error, judged, measured) if error is not None)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that :meth:`from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Outcome:
        """Raises ``KeyError`` or ``TypeError`` for anything but an outcome."""
        judgement = fields["judgement"]
        return cls(
            fields["arm"],
            fields["suite"],
            fields["id"],
            Reply(**fields["reply"]),
            None if judgement is None else Judgement(**judgement),
            Perplexity(**fields["perplexity"]),
        )
