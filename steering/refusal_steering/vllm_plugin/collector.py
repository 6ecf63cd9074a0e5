"""Activations through vLLM itself: an offline engine that records last prompt tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor
from tqdm import tqdm

from refusal_steering.bundle import SteeringBundle, make_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import EXTRA_KEY, Directive
from refusal_steering.errors import SteeringError, UnsupportedEngineError
from refusal_steering.spec import SteeringSpec
from refusal_steering.vllm_plugin.engine_args import EngineOptions
from refusal_steering.vllm_plugin.protocols import OfflineEngine

Messages = list[dict[str, Any]]

_CPU_CACHE = 2 << 30


class Collector:
    """One offline engine; ``sizes`` are its hidden size and number of layers.

    ``template_arguments`` are given to the chat template.
    """

    def __init__(
        self,
        engine: OfflineEngine,
        silent: SteeringBundle,
        template_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._silent = silent
        self._template_arguments = dict(template_arguments or {})
        self._count = 0

    @property
    def sizes(self) -> tuple[int, int]:
        """Hidden size and number of decoder layers."""
        model = self._silent.manifest.model
        return model.hidden_size, model.num_layers

    def collect(self, conversations: Sequence[Messages], batch: int = 256) -> Tensor:
        """Residual rows [N, L, H] in float32 at each conversation's last prompt token."""
        parts = [
            self._batch(conversations[start : start + batch])
            for start in tqdm(range(0, len(conversations), batch), desc="collect", unit="batch")
        ]
        hidden, layers = self.sizes
        return torch.cat(parts) if parts else torch.empty(0, layers, hidden)

    def _batch(self, conversations: Sequence[Messages]) -> Tensor:
        from vllm import SamplingParams

        names = [f"row-{self._count + place}" for place in range(len(conversations))]
        self._count += len(names)
        params = [
            SamplingParams(
                max_tokens=1,
                temperature=0.0,
                extra_args={EXTRA_KEY: self._directive(name).to_wire()},
            )
            for name in names
        ]
        self._engine.chat(
            list(conversations),
            params,
            use_tqdm=False,
            chat_template_kwargs=self._template_arguments,
        )
        answers = self._engine.collective_rpc("refusal_steering_recorded")
        rows = load(answers[0])
        missing = [name for name in names if name not in rows]
        if missing:
            raise SteeringError(
                f"{len(missing)} of {len(names)} prompts were not recorded, such as prompt "
                f"{missing[0]}; every one must be, so nothing was kept"
            )
        return torch.stack([rows[name] for name in names])

    def _directive(self, name: str) -> Directive:
        spec = SteeringSpec.of(self._silent, strength=0.0)
        return spec.directive(self._silent.digest, policy="collect", policy_version=name)


@contextmanager
def collecting(
    model: str, template_arguments: Mapping[str, Any] | None = None, **engine: Any
) -> Iterator[Collector]:
    """An engine on ``model`` (a folder or a hub name) for the time of the block.

    ``template_arguments`` are given to the chat template; ``engine`` are further arguments of
    ``vllm.LLM``. Raises :class:`UnsupportedEngineError` where vLLM does not start.
    """
    try:
        llm, silent = _started(model, engine)
    # A model that is not there, an argument that vLLM does not know, too little memory: it raises
    # what it likes, after lines of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UnsupportedEngineError(f"vLLM cannot run {model}: {reason}") from error
    try:
        for method, args in (
            ("refusal_steering_load", (silent.packed,)),
            ("refusal_steering_record", ()),
        ):
            for answer in llm.collective_rpc(method, args=args):
                if answer["error"] is not None:
                    raise SteeringError(f"rank {answer['rank']}: {answer['error']}")
        yield Collector(llm, silent, template_arguments)
    finally:
        llm.llm_engine.engine_core.shutdown()


def _started(model: str, engine: Mapping[str, Any]) -> tuple[Any, SteeringBundle]:
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform

    config = EngineArgs(model=model).create_model_config()
    layers, hidden = config.get_total_num_hidden_layers(), config.get_hidden_size()
    options = EngineOptions(layers=(0,), bundle_slots=1, units=0)
    # On a CPU vLLM would claim nearly all of the machine's memory, which other programs use too.
    modest = {"kv_cache_memory_bytes": _CPU_CACHE} if current_platform.is_cpu() else {}
    llm = LLM(model=model, enforce_eager=True, **{**modest, **engine, **options.to_engine()})
    return llm, _silent_bundle(model, hidden, layers)


def _silent_bundle(model: str, hidden: int, layers: int) -> SteeringBundle:
    direction = torch.zeros(hidden)
    direction[0] = 1.0
    identity = {"id": model, "hidden_size": hidden, "num_layers": layers}
    manifest = {
        "name": "silent",
        "strategy": "static",
        "model": identity,
        "window": {"decode_tokens": 0},
    }
    return make_bundle({0: LayerSteering.static(direction, 0.0)}, manifest)
