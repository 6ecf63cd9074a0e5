"""What is learnt of a served template before its rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from refusal_steering.engine import EngineAnswer, Messages, Steered
from refusal_steering.errors import EngineEndedError
from refusal_steering.pipeline.media.gate.token_rows import Turns
from refusal_steering.pipeline.media.work import Work
from tests.steering.pipeline.media.fake_model import FakeModel


def test_what_a_template_takes_is_not_learnt_from_an_engine_that_has_ended(tmp_path: Path) -> None:
    class Ended(FakeModel):
        def answers(
            self,
            conversations: Sequence[Messages],
            tokens: int,
            steered: Steered | None = None,
            *,
            logprobs: bool = False,
        ) -> list[EngineAnswer]:
            raise EngineEndedError("gone")

    with pytest.raises(EngineEndedError):
        Turns.of(Ended(), Work(tmp_path))
    assert Turns.of(FakeModel(), Work(tmp_path)).user_turn
