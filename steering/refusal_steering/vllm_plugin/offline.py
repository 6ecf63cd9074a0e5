"""An offline engine for calibration: it records residual rows and final states, and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, make_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import EXTRA_KEY, Directive
from refusal_steering.engine import EngineAnswer, EngineFacts, Messages, Steered
from refusal_steering.errors import SteeringError, UnsupportedEngineError
from refusal_steering.spec import SteeringSpec
from refusal_steering.vllm_plugin.engine_args import EngineOptions
from refusal_steering.vllm_plugin.protocols import OfflineEngine, OfflineOutput

_CPU_CACHE = 2 << 30
_TOP = 20
# One bundle is in work; the slots of those before it are free once the engine has let go of them.
_SLOTS = 4
# Conversations that are on their way at once: what is kept of them fits into memory.
_BATCH = {True: 16, False: 128}


@dataclass(frozen=True, slots=True)
class Template:
    """What is put around a conversation: the model's own chat template, unless ``text`` is given.

    ``arguments`` are given to it; ``content_format`` says how it takes media.
    """

    text: str | None = None
    content_format: str = "auto"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chat(self) -> dict[str, Any]:
        """The arguments of ``vllm.LLM.chat``."""
        from vllm.renderers.chat_utils import load_chat_template

        return {
            "chat_template": load_chat_template(self.text),
            "chat_template_content_format": self.content_format,
            "chat_template_kwargs": dict(self.arguments),
        }


class OfflineModel:
    """One offline engine; ``batch`` is how many conversations it is best given at a time.

    Every method raises :class:`SteeringError` where a conversation gets lost on the way.
    """

    def __init__(
        self, engine: OfflineEngine, facts: EngineFacts, template: Template, batch: int
    ) -> None:
        self.facts = facts
        self.batch = batch
        self._engine = engine
        self._template = template
        silent = _silent_bundle(facts)
        self._unsteered = Steered(silent, SteeringSpec.of(silent, strength=0.0))
        self._count = 0
        self._ask("refusal_steering_load", silent.packed)
        self._ask("refusal_steering_record")

    def rows(self, conversations: Sequence[Messages], steered: Steered | None = None) -> Tensor:
        """Residual rows [N, L, H] in float32 at each conversation's last prompt token."""
        if not conversations:
            sizes = self.facts.identity
            return torch.empty(0, sizes.num_layers, sizes.hidden_size)
        names, _ = self._run(conversations, 1, steered or self._unsteered)
        return self._recorded(names)

    def answers(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None = None,
        *,
        logprobs: bool = False,
    ) -> list[EngineAnswer]:
        """Greedy answers of at most ``tokens`` tokens."""
        if not conversations:
            return []
        _, outputs = self._run(conversations, tokens, steered, logprobs=logprobs)
        self._engine.collective_rpc("refusal_steering_recorded")
        return [_answer(output) for output in outputs]

    def states(self, conversations: Sequence[Messages], tokens: int) -> Tensor:
        """States [N, tokens, H] after the last norm, that greedy answers were chosen from.

        An answer that ends earlier goes on past its end.
        """
        blended = replace(self._unsteered.spec, blend=0.0)
        watched = replace(self._unsteered, spec=blended)
        names, _ = self._run(conversations, tokens, watched, watched=tokens)
        found = self._recorded([f"{name}/states" for name in names])
        if found.shape[1] != tokens:
            raise SteeringError(f"{found.shape[1]} of {tokens} states were recorded; none was kept")
        return found

    def output_logits(self, states: Tensor) -> Tensor:
        """Logits [N, V] in float32 for states [N, H] after the last norm."""
        packed = save({"states": states.float().contiguous()})
        answers = self._engine.collective_rpc("refusal_steering_project", args=(packed,))
        if not answers[0]:
            raise SteeringError("this model's logits do not follow its states in proportion")
        return load(answers[0])["logits"]

    def load(self, bundle: SteeringBundle) -> None:
        """Load ``bundle`` and free the slots of all others."""
        self._ask("refusal_steering_retire", [self._unsteered.bundle.digest])
        self._ask("refusal_steering_load", bundle.packed)

    def _run(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None,
        *,
        logprobs: bool = False,
        watched: int = 0,
    ) -> tuple[list[str], Sequence[OfflineOutput]]:
        from vllm import SamplingParams

        names = [f"row-{self._count + place}" for place in range(len(conversations))]
        self._count += len(names)
        extra: list[dict[str, Any] | None] = [None] * len(names)
        if steered is not None:
            spec, digest = steered.spec, steered.bundle.digest
            known = [spec.directive(digest, "calibration", name) for name in names]
            extra = [{EXTRA_KEY: _watching(one, watched).to_wire()} for one in known]
        params = [
            SamplingParams(
                max_tokens=tokens,
                temperature=0.0,
                logprobs=_TOP if logprobs else None,
                ignore_eos=watched > 0,
                extra_args=one,
            )
            for one in extra
        ]
        outputs = self._engine.chat(
            list(conversations), params, use_tqdm=False, **self._template.chat
        )
        if len(outputs) != len(names):
            raise SteeringError(f"{len(outputs)} answers came to {len(names)} conversations")
        return names, outputs

    def _recorded(self, names: Sequence[str]) -> Tensor:
        rows = load(self._engine.collective_rpc("refusal_steering_recorded")[0])
        missing = [place for place, name in enumerate(names) if name not in rows]
        if missing:
            raise SteeringError(
                f"{len(missing)} of {len(names)} prompts were not recorded, the first of them "
                f"number {missing[0]} of the batch; every one must be, so nothing was kept"
            )
        return torch.stack([rows[name] for name in names])

    def _ask(self, method: str, *args: object) -> None:
        for answer in self._engine.collective_rpc(method, args=args):
            if answer["error"] is not None:
                raise SteeringError(f"rank {answer['rank']}: {answer['error']}")


@contextmanager
def offline_model(
    facts: EngineFacts, template: Template, steered: bool, engine: Mapping[str, Any]
) -> Iterator[OfflineModel]:
    """An engine on the model of ``facts`` for the time of the block.

    ``engine`` are further arguments of ``vllm.LLM``. An engine that is to be ``steered`` has room
    for bundles on every layer. Raises :class:`UnsupportedEngineError` where vLLM does not start.
    """
    try:
        llm, batch = _started(facts, steered, engine)
    # Too little memory, weights that do not fit: it raises what it likes, after lines of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UnsupportedEngineError(f"vLLM cannot run {facts.model}: {reason}") from error
    try:
        yield OfflineModel(llm, facts, template, batch)
    finally:
        llm.llm_engine.engine_core.shutdown()


def _started(facts: EngineFacts, steered: bool, engine: Mapping[str, Any]) -> tuple[Any, int]:
    from vllm import LLM
    from vllm.platforms import current_platform

    layers = tuple(range(facts.identity.num_layers)) if steered else (0,)
    options = EngineOptions(layers=layers, bundle_slots=_SLOTS, units=128 if steered else 0)
    # On a CPU vLLM would claim nearly all of the machine's memory, which other programs use too.
    cpu = current_platform.is_cpu()
    modest = {"kv_cache_memory_bytes": _CPU_CACHE} if cpu else {}
    arguments = {**modest, **engine, **options.to_engine(), "enforce_eager": True}
    return LLM(model=facts.model, **arguments), _BATCH[cpu]


def _watching(directive: Directive, tokens: int) -> Directive:
    """The same request, with its first ``tokens`` states recorded; a blend of 0 changes none."""
    return replace(directive, blend_tokens=tokens) if tokens else directive


def _answer(output: OfflineOutput) -> EngineAnswer:
    first = output.outputs[0]
    steps = tuple(
        {int(token): float(entry.logprob) for token, entry in step.items()}
        for step in first.logprobs or ()
    )
    return EngineAnswer(tuple(output.prompt_token_ids or ()), first.text, steps)


def _silent_bundle(facts: EngineFacts) -> SteeringBundle:
    direction = torch.zeros(facts.identity.hidden_size)
    direction[0] = 1.0
    manifest = {
        "name": "silent",
        "strategy": "static",
        "model": facts.identity,
        "window": {"decode_tokens": 0},
    }
    return make_bundle({0: LayerSteering.static(direction, 0.0)}, manifest)
