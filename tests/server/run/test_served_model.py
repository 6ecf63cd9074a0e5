"""A model that hears videos is asked to with every request, the server's own ones too."""

from __future__ import annotations

import asyncio
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.run.served_model import hearing


class Serving:
    """What vLLM's serving object was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[ChatCompletionRequest, object]] = []

    async def create_chat_completion(self, request: ChatCompletionRequest, raw: object) -> str:
        self.asked.append((request, raw))
        return "answer"


def test_every_request_asks_for_the_sound_of_its_videos() -> None:
    serving: Any = Serving()
    request = ChatCompletionRequest(messages=[{"role": "user", "content": "x"}], model="m")
    before = request.model_dump()
    assert before["mm_processor_kwargs"] is None
    assert asyncio.run(hearing(serving).create_chat_completion(request, None)) == "answer"
    ((asked, raw),) = serving.asked
    assert raw is None
    sound = {"use_audio_in_video": True}
    assert asked.model_dump() == {**before, "mm_processor_kwargs": sound}
