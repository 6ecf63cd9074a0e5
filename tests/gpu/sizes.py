"""The models and the kinds of rounds of the overhead measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STOCK, EVERY = "stock", "every layer"


@dataclass(frozen=True)
class Size:
    """A model's configuration, the load put on it, and how its engines are started."""

    model: Mapping[str, Any]
    batch: int
    prompt: int
    tokens: int
    layers: Mapping[str, tuple[int, ...]]
    engine: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    graph_rows: int | None = None


# Qwen2.5-7B, and the language model of Qwen2.5-Omni-7B.
REAL = Size(
    model={
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
    },
    batch=256,
    prompt=128,
    tokens=128,
    layers={"3 layers": (7, 14, 21), EVERY: tuple(range(28))},
    engine={
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 8192,
        # Three engines share a device of 80 GB.
        "kv_cache_memory_bytes": 4 << 30,
        "gpu_memory_utilization": 0.2,
    },
    environment={"VLLM_USE_FLASHINFER_SAMPLER": "0"},
)
REHEARSAL = Size(
    model={
        "vocab_size": 1024,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
    },
    batch=8,
    prompt=8,
    tokens=6,
    layers={"3 layers": (0, 1, 2), EVERY: (0, 1, 2, 3)},
    engine={
        "dtype": "float32",
        "enforce_eager": True,
        "max_model_len": 128,
        "max_num_seqs": 8,
        "kv_cache_memory_bytes": 32 << 20,
    },
    environment={"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    graph_rows=64,
)


@dataclass(frozen=True)
class Variant:
    """One kind of round: which engine, how many distinct strengths (0: none), whose size."""

    engine: str
    strengths: int = 0
    hold: bool = True
    single: bool = False
    again: bool = False

    @property
    def name(self) -> str:
        """For reports."""
        words = [self.engine + (" again" if self.again else "")]
        if self.engine != STOCK:
            words.append(f"{self.strengths} strengths" if self.strengths else "armed, idle")
        if not self.hold:
            words.append("anew for every token")
        return ", ".join([*words, *(["one request"] if self.single else [])])


VARIANTS = (
    Variant(STOCK),
    Variant(STOCK, again=True),
    Variant("3 layers"),
    Variant("3 layers", 256),
    Variant(EVERY),
    Variant(EVERY, 1),
    Variant(EVERY, 8),
    Variant(EVERY, 64),
    Variant(EVERY, 256),
    Variant(EVERY, 256, hold=False),
    Variant(STOCK, single=True),
    Variant("3 layers", 1, single=True),
    Variant(EVERY, single=True),
    Variant(EVERY, 1, single=True),
)
