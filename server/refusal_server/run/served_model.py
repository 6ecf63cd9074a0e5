"""What vLLM is asked about the model that it serves, once it runs."""

from __future__ import annotations

from argparse import Namespace
from functools import wraps
from typing import Any

from starlette.datastructures import State
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.multimodal import MULTIMODAL_REGISTRY

from refusal_server.http.service import ServedModel
from refusal_server.run.startup import StartupError
from refusal_steering.vllm_plugin.offline import HEARD
from refusal_steering.vllm_plugin.protocols import EngineClient


def served_model(engine: EngineClient, args: Namespace) -> ServedModel:
    """The model's names, its length, and what it takes besides text."""
    config = engine.model_config
    takes: dict[str, int] = {}
    if config.supports_multimodal_inputs:
        limits = MULTIMODAL_REGISTRY.get_processing_info(config).allowed_mm_limits
        takes = {name: count for name, count in limits.items() if count > 0}
    names = tuple(args.served_model_name or [args.model])
    return ServedModel(names, config.max_model_len, takes)


async def serving_chat(engine: EngineClient, args: Namespace) -> OpenAIServingChat:
    """vLLM's serving object for chats; raises :class:`StartupError` where there is none."""
    hears = hears_videos(args)
    if hears:
        # Callers' own settings are refused before; vLLM would refuse ours as well.
        args = Namespace(**{**vars(args), "trust_request_mm_kwargs": True})
    state = State()
    await init_app_state(engine, state, args, await engine.get_supported_tasks())
    if state.openai_serving_chat is None:
        raise StartupError("the model does not generate text; serve a chat model")
    return hearing(state.openai_serving_chat) if hears else state.openai_serving_chat


def hearing(serving: OpenAIServingChat) -> OpenAIServingChat:
    """The same object, which asks for the sound of videos with every request.

    vLLM takes it out for requests that ask for it themselves, whatever the engine's setting is.
    """
    create = serving.create_chat_completion

    @wraps(create)
    async def create_chat_completion(
        request: ChatCompletionRequest, *args: Any, **kwargs: Any
    ) -> Any:
        request.mm_processor_kwargs = {HEARD: True}
        return await create(request, *args, **kwargs)

    serving.create_chat_completion = create_chat_completion
    return serving


def may_think(args: Namespace) -> bool:
    """Whether the server is set up for a model that thinks before it answers."""
    defaults = args.default_chat_template_kwargs or {}
    thinking = defaults.get("enable_thinking") or defaults.get("thinking")
    parser = args.reasoning_parser or args.structured_outputs_config.reasoning_parser
    return bool(parser or thinking)


def hears_videos(args: Namespace) -> bool:
    """Whether the model is given the sound of the videos that it is sent."""
    return bool((args.mm_processor_kwargs or {}).get(HEARD))
