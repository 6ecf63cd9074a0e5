"""What the offline engine of a build does with conversations that vLLM cannot read."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from refusal_steering.bundle import ModelIdentity
from refusal_steering.engine import EngineFacts
from refusal_steering.errors import EngineEndedError, SteeringError
from refusal_steering.vllm_plugin.offline import OfflineModel, Template

pytest.importorskip("vllm")
FACTS = EngineFacts("m", ModelIdentity(id="m", hidden_size=4, num_layers=2), {}, 64, 8, True, "d")


class Unreadable:
    """An engine that takes every bundle, and whose template knows no medium."""

    llm_engine: Any = None

    def get_tokenizer(self) -> NoReturn:
        raise AssertionError("nothing asks for it")

    def collective_rpc(
        self, method: str, timeout: float | None = None, args: tuple[object, ...] = ()
    ) -> list[Any]:
        return [{"rank": 0, "error": None}]

    def chat(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("Failed to apply prompt replacement\nfor mm_items['video'][0]")


def test_what_vllm_says_of_a_conversation_becomes_an_error_that_a_build_can_note() -> None:
    model = OfflineModel(Unreadable(), FACTS, Template(), 16)
    with pytest.raises(SteeringError, match=r"replacement for mm_items\['video'\]"):
        model.answers([[{"role": "user", "content": "Hello."}]], 1)


def test_an_engine_that_has_ended_is_no_fault_of_a_conversation() -> None:
    from vllm.v1.engine.exceptions import EngineDeadError

    class Ended(Unreadable):
        def chat(self, *_: object, **__: object) -> NoReturn:
            raise EngineDeadError

    model = OfflineModel(Ended(), FACTS, Template(), 16)
    with pytest.raises(EngineEndedError, match="engine has ended"):
        model.answers([[{"role": "user", "content": "Hello."}]], 1)
