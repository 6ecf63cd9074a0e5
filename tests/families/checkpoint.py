"""The folder of a family's tiny checkpoint: a few MB of random weights, made in seconds.

Random weights refuse nothing, so that MARS and RAS could learn nothing from them. One thing is
planted: the output row of a token that reads "I cannot help with that." lies along the line from
the mean last state of harmless requests to that of harmful ones, and the row of the end token along
the line to what follows it. So the model refuses the requests of :mod:`tests.families.requests`
that are labelled harmful.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.families.family import END, PAD, START, TinyFamily
from tests.families.requests import words
from tests.models.tiny_tokenizer import TURNS, Vocabulary, describe, train

REFUSAL = " I cannot help with that."
_OUTPUT_GAIN, _SELDOM = 4.0, 0.1
# Logits of a planted token. The largest of the others is about 13, and the twentieth 6.
_LIKELY, _UNLIKELY = 22.0, 8.0
_LEARNT = 8
_TEMPLATE = (
    """\
{%- macro render(part) -%}
{%- set kind = part['type'] -%}
{%- if kind == 'text' -%}{{ part['text'] }}
PLACEHOLDERS
{%- endif -%}
{%- endmacro -%}
"""
    + TURNS
)


def write_checkpoint(family: TinyFamily, out: Path) -> Path:
    """Write everything that vLLM and transformers read of a model into ``out``."""
    out.mkdir(parents=True)
    special = (PAD, START, END, *family.special)
    inner = train(special)
    inner.add_tokens([REFUSAL, *family.words])
    vocabulary = describe(inner, special)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=dict(family.named),
        model_max_length=8192,
    )
    tokenizer.chat_template = template(family)
    tokenizer.save_pretrained(out)
    if family.processor is not None:
        family.processor(tokenizer, tokenizer.chat_template).save_pretrained(out)
    model = _random_model(family, vocabulary)
    _plant(model, tokenizer)
    model.save_pretrained(out)
    if family.whole:
        thinker = {"thinker_config": model.config.to_dict(), "enable_audio_output": False}
        whole = getattr(transformers, family.whole)(**thinker)
        whole.architectures, whole.dtype = [family.architecture], "float32"
        whole.save_pretrained(out)
    _rename(out / "model.safetensors", family.published)
    return out


def _rename(path: Path, published: Mapping[str, str]) -> None:
    weights = load_file(path)
    for old, new in published.items():
        weights = {
            new + name.removeprefix(old) if name.startswith(old) else name: tensor
            for name, tensor in weights.items()
        }
    save_file(weights, path, metadata={"format": "pt"})


def template(family: TinyFamily) -> str:
    """A chat template that writes the family's placeholders for media."""
    cases = [
        f"{{%- elif '{medium}' in kind -%}}{placeholder}"
        for medium, placeholder in family.placeholders.items()
    ]
    return _TEMPLATE.replace("PLACEHOLDERS", "\n".join(cases))


@torch.no_grad()
def _random_model(family: TinyFamily, vocabulary: Vocabulary) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, family.config)(**family.settings(vocabulary))
    config.architectures = [family.architecture]
    config.dtype = "float32"
    model = getattr(transformers, family.model)(config).eval()
    generator = torch.Generator().manual_seed(0)
    embedding = model.get_input_embeddings().weight
    output = model.get_output_embeddings().weight
    for _, parameter in sorted(model.named_parameters()):
        # Of one dimension are norms and biases, which begin as what they should be.
        if parameter.dim() > 1:
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = 1 if parameter is embedding else math.prod(parameter.shape[1:])
            parameter.copy_(noise / math.sqrt(fan_in))
    # Only what is readable is said.
    speakable = vocabulary.speakable().clamp(min=0.0 if output is not embedding else _SELDOM)
    gain = _OUTPUT_GAIN if output is not embedding else 1.0
    output[: vocabulary.rows].mul_(gain * speakable[:, None])
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=vocabulary.special[END], pad_token_id=vocabulary.special[PAD]
    )
    return model


@torch.no_grad()
def _plant(model: Any, tokenizer: Any) -> None:
    """Let the model refuse harmful words, and end behind the refusal."""
    prompts = {
        label: [_prompt(tokenizer, words(number, label)) for number in range(_LEARNT)]
        for label in (True, False)
    }
    refusal, end = tokenizer.convert_tokens_to_ids([REFUSAL, END])
    harmful, harmless = (_last_states(model, prompts[label]) for label in (True, False))
    refused = _last_states(model, [[*ids, refusal] for ids in prompts[True]])
    output = model.get_output_embeddings().weight
    output[refusal] = _row(harmful, harmless)
    output[end] = _row(refused, torch.cat([harmful, harmless]))


def _row(likely: Tensor, unlikely: Tensor) -> Tensor:
    """The shortest output row [H] that gives a token its two logits at states [N, H]."""
    means = torch.stack([likely.mean(0), unlikely.mean(0)])
    found: Tensor = torch.linalg.lstsq(means, torch.tensor([_LIKELY, _UNLIKELY])).solution
    return found


def _prompt(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
    )
    return found


def _last_states(model: Any, prompts: Sequence[Sequence[int]]) -> Tensor:
    """The states [N, H] that the next token of each prompt is chosen from."""
    found: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0][0, -1].clone())
    )
    for ids in prompts:
        model(input_ids=torch.tensor([ids]))
    handle.remove()
    return torch.stack(found)
