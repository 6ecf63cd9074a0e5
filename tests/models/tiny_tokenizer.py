"""The tokenizer of the tiny omni model: byte-level BPE, a few hundred tokens, made on the spot."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"),
    *("<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>", "<|vision_eos|>", "<|vision_pad|>"),
)
"""The names that Qwen2.5-Omni's processor looks up; the ids are our own."""
NAMED = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = """\
system
user
assistant
You are a careful assistant. The user sends a picture, a recording or a film with each question.
What do you see in this picture, what do you hear in this recording, what happens in this film?
Please answer in one or two short sentences, and say so when you cannot help with a request.
I am sorry, but I cannot help with that. I can help with that: here are the steps to follow.
The weather was fine on the first day of the week, and the children went down to the river.
One, two, three, four, five, six, seven, eight, nine, ten; red, green, blue, black and white.
There is no meaning in the words that this model writes; they are here to be counted and compared.
Write a list of the things that you would need, then write down how you would use each of them.
"""
VOCABULARY_SIZE = 640
"""Upper bound: the corpus runs out of pairs that occur twice well before."""
TURNS = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['content'] is string -%}
{{- message['content'] -}}
{%- else -%}
{%- for part in message['content'] -%}{{- render(part) -}}{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
"""The part of a chat template that writes the turns; it calls the macro `render`."""
CHAT_TEMPLATE = (
    """\
{%- macro render(part) -%}
{%- set kind = part['type'] -%}
{%- if kind.startswith('image') -%}<|vision_bos|><|IMAGE|><|vision_eos|>
{%- elif kind.startswith('video') -%}<|vision_bos|><|VIDEO|><|vision_eos|>
{%- elif 'audio' in kind -%}<|audio_bos|><|AUDIO|><|audio_eos|>
{%- else -%}{{ part['text'] }}
{%- endif -%}
{%- endmacro -%}
{%- if messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are a careful assistant.<|im_end|>\\n' -}}
{%- endif -%}
"""
    + TURNS
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the model needs to know of its tokenizer."""

    size: int
    special: dict[str, int]
    printable: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of the embedding: the size, rounded up to a multiple of 64."""
        return math.ceil(self.size / 64) * 64

    def speakable(self) -> torch.Tensor:
        """One per row that the model may put out, zero elsewhere; shape (rows,)."""
        mask = torch.zeros(self.rows)
        mask[list(self.printable)] = 1.0
        mask[self.special["<|im_end|>"]] = 1.0
        return mask


def write_tokenizer(out: Path) -> Vocabulary:
    """Train the tokenizer, write its files and the chat template, and describe it."""
    tokenizer = train(SPECIAL)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32_768,
        "extra_special_tokens": NAMED,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (out / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return describe(tokenizer, SPECIAL)


def describe(tokenizer: Tokenizer, special: Sequence[str]) -> Vocabulary:
    """What a model needs to know of ``tokenizer``, whose tokens ``special`` stand for no words."""
    ids = tokenizer.get_vocab()
    known = {token: ids[token] for token in special}
    words = sorted(set(ids.values()) - set(known.values()))
    printable = tuple(i for i in words if _is_printable(tokenizer.decode([i])))
    return Vocabulary(size=len(ids), special=known, printable=printable)


def train(special: Sequence[str]) -> Tokenizer:
    """Byte-level BPE of the corpus above, with the tokens ``special`` behind its words."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _is_printable(text: str) -> bool:
    return bool(text) and text.isascii() and (text.isprintable() or text == "\n")
