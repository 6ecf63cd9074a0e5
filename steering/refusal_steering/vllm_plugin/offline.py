"""A model in an offline engine: it records residual rows and final states, and answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, make_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import EPOCH_KEY, EXTRA_KEY, Directive
from refusal_steering.engine import EngineAnswer, EngineFacts, Messages, PromptRows, Steered
from refusal_steering.errors import EngineEndedError, SteeringError
from refusal_steering.spec import SteeringSpec
from refusal_steering.trace import Reading
from refusal_steering.vllm_plugin.protocols import OfflineEngine, OfflineOutput, RankAnswer
from refusal_steering.vllm_plugin.reading_epoch import ReadingEpoch
from refusal_steering.vllm_plugin.recorder import MOST_HELD

# vLLM hears the videos of a conversation only where the conversation itself asks for it.
HEARD = "use_audio_in_video"
_TOP = 20


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
        self._hearing = {"mm_processor_kwargs": {HEARD: True}} if facts.hears_videos else {}
        silent = _silent_bundle(facts)
        self._unsteered = Steered(silent, SteeringSpec.of(silent, strength=0.0))
        self._count = 0
        self._together = batch
        self._epoch = ReadingEpoch()
        self._ask("refusal_steering_load", silent.packed)
        self._ask("refusal_steering_record")

    def rows(self, conversations: Sequence[Messages], steered: Steered | None = None) -> Tensor:
        """Residual rows [N, L, H] in float32 at each conversation's last prompt token."""
        if not conversations:
            sizes = self.facts.identity
            return torch.empty(0, sizes.num_layers, sizes.hidden_size)
        names, _ = self._run(conversations, 1, steered or self._unsteered)
        return self._recorded(names)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that vLLM makes prompts with."""
        return self._engine.get_tokenizer()

    def prompt_rows(
        self, conversations: Sequence[Messages], layers: Sequence[int]
    ) -> Iterator[PromptRows]:
        """Unsteered rows of every prompt token behind ``layers``, by conversation.

        As many are asked at a time as the worker can hold; prompts that were cached are computed
        again.
        """
        at = 0
        while at < len(conversations):
            asked = conversations[at : at + self._together]
            found = self._whole_prompts(asked, layers)
            if found is None:
                self._together = len(asked) // 2
                continue
            yield from found
            at += len(asked)
            size = sum(rows.nbytes for one in found for rows in one.layers.values())
            if 4 * size < MOST_HELD:
                self._together = min(2 * self._together, self.batch)

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
        self._epoch.retired(self._ask("refusal_steering_retire", [self._unsteered.bundle.digest]))
        self._epoch.loaded(bundle, self._ask("refusal_steering_load", bundle.packed))

    def _whole_prompts(
        self, conversations: Sequence[Messages], layers: Sequence[int]
    ) -> list[PromptRows] | None:
        """Rows of all of ``conversations``, or none where they are too many to be held."""
        self._ask("refusal_steering_record_prompts", list(layers))
        try:
            names, outputs = self._run(conversations, 1, self._unsteered, anew=True)
            rows = load(self._engine.collective_rpc("refusal_steering_recorded")[0])
        finally:
            self._ask("refusal_steering_record_prompts", [])
        if not rows and len(names) > 1:
            return None
        found = [
            PromptRows(
                tuple(output.prompt_token_ids or ()),
                {at: rows[key] for at in layers if (key := f"{name}/{at}") in rows},
            )
            for name, output in zip(names, outputs, strict=True)
        ]
        for place, one in enumerate(found):
            whole = all(bool(torch.isfinite(part).all()) for part in one.layers.values())
            if set(one.layers) != set(layers) or not whole:
                raise SteeringError(
                    f"prompt {place} of {len(found)} was not recorded whole, or has rows that are "
                    "not finite; serve the model in a precision that it can run in"
                )
        return found

    def _run(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None,
        *,
        logprobs: bool = False,
        watched: int = 0,
        anew: bool = False,
    ) -> tuple[list[str], Sequence[OfflineOutput]]:
        from vllm import SamplingParams

        names = [f"row-{self._count + place}" for place in range(len(conversations))]
        self._count += len(names)
        number = self._epoch.number
        extra: list[dict[str, Any]] = [{} if number is None else {EPOCH_KEY: number} for _ in names]
        if steered is not None:
            spec, digest = steered.spec, steered.bundle.digest
            for name, own in zip(names, extra, strict=True):
                directive = spec.directive(digest, "calibration", name)
                own[EXTRA_KEY] = _watching(directive, watched).to_wire()
        params = [
            SamplingParams(
                max_tokens=tokens,
                temperature=0.0,
                logprobs=_TOP if logprobs else None,
                ignore_eos=watched > 0,
                skip_reading_prefix_cache=anew or None,
                extra_args=one or None,
            )
            for one in extra
        ]
        outputs = self._chat(conversations, params)
        if len(outputs) != len(names):
            raise SteeringError(f"{len(outputs)} answers came to {len(names)} conversations")
        for output in outputs:
            _check_reading(output)
        return names, outputs

    def _chat(
        self, conversations: Sequence[Messages], params: list[Any]
    ) -> Sequence[OfflineOutput]:
        from vllm.v1.engine.exceptions import EngineDeadError

        chat = {**self._template.chat, **self._hearing}
        try:
            return self._engine.chat(list(conversations), params, use_tqdm=False, **chat)
        except EngineDeadError as error:
            raise EngineEndedError(
                "vLLM's engine has ended; see its messages above, then start the command again, "
                "which goes on where it was"
            ) from error
        # A template without a medium's placeholder, a prompt that is too long: all its own errors.
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise SteeringError(f"the engine cannot read a conversation: {reason}") from error

    def _recorded(self, names: Sequence[str]) -> Tensor:
        rows = load(self._engine.collective_rpc("refusal_steering_recorded")[0])
        missing = [place for place, name in enumerate(names) if name not in rows]
        if missing:
            raise SteeringError(
                f"{len(missing)} of {len(names)} prompts were not recorded, the first of them "
                f"number {missing[0]} of the batch; every one must be, so nothing was kept"
            )
        return torch.stack([rows[name] for name in names])

    def _ask(self, method: str, *args: object) -> list[RankAnswer]:
        answers: list[RankAnswer] = self._engine.collective_rpc(method, args=args)
        for answer in answers:
            if answer["error"] is not None:
                raise SteeringError(f"rank {answer['rank']}: {answer['error']}")
        return answers


def _watching(directive: Directive, tokens: int) -> Directive:
    """The same request, with its first ``tokens`` states recorded; a blend of 0 changes none."""
    return replace(directive, blend_tokens=tokens) if tokens else directive


def _reading(output: OfflineOutput) -> Reading | None:
    """What the worker has measured in a request's last step, if anything was."""
    wire = (output.kv_transfer_params or {}).get(EXTRA_KEY)
    return None if wire is None else Reading.from_wire(wire)


def _check_reading(output: OfflineOutput) -> None:
    """Raise :class:`SteeringError` for a request that the worker could not steer."""
    reading = _reading(output)
    if reading is not None and reading.failure is not None:
        raise SteeringError(f"the engine could not steer a request: {reading.failure}")


def _answer(output: OfflineOutput) -> EngineAnswer:
    first = output.outputs[0]
    steps = tuple(
        {int(token): float(entry.logprob) for token, entry in step.items()}
        for step in first.logprobs or ()
    )
    reading = _reading(output)
    gate = None if reading is None else reading.gate
    score = None if gate is None else gate.score
    return EngineAnswer(tuple(output.prompt_token_ids or ()), first.text, steps, score)


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
