"""The reading epoch: which prompts in the prefix cache were read by the gates of today."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_steering.bundle import SteeringBundle
from refusal_steering.vllm_plugin.protocols import RankAnswer


class ReadingEpoch:
    """Counts the times at which a gate began to read; ``number`` is ``None`` before the first.

    Prompts that were cached before a gate was loaded were not read by it. They must not be found
    by requests that come after, which therefore carry another number.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        # The gate of every loaded bundle that has one.
        self._gates: dict[str, str] = {}

    def loaded(self, bundle: SteeringBundle, answers: Sequence[RankAnswer]) -> None:
        """Take note of a bundle that every rank has loaded, and of what they answered."""
        self.retired(answers)
        if bundle.gate is None:
            return
        if bundle.gate.digest not in self._gates.values():
            self.number = (self.number or 0) + 1
        self._gates[bundle.digest] = bundle.gate.digest

    def retired(self, answers: Sequence[RankAnswer]) -> None:
        """Forget the bundles that not every rank holds any longer."""
        held = set.intersection(*(set(answer["bundles"]) for answer in answers))
        self._gates = {bundle: gate for bundle, gate in self._gates.items() if bundle in held}
