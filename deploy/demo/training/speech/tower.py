"""The audio tower of Qwen2.5-Omni's class for training: the same parameters, in padded batches."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploy.demo.training.speech import whisper
from deploy.demo.training.speech.voices import RATE, Samples

HOP, FFT = 320, 400
POSITIONS = 1500


@dataclass(frozen=True, slots=True)
class Heard:
    """What a tower puts out: ``vectors`` [batch, time, width] and how many of them are valid."""

    vectors: Tensor
    lengths: Tensor


class Layer(nn.Module):
    """An encoder layer of Whisper's."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict(
            {name: nn.Linear(width, width, bias=name != "k_proj") for name in
             ("q_proj", "k_proj", "v_proj", "out_proj")}
        )  # fmt: skip
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` [batch, time, width] after the layer; ``mask`` is true where attention may look."""
        batch, time, width = x.shape
        normed = self.self_attn_layer_norm(x)
        query, key, value = (
            self.self_attn[name](normed).view(batch, time, self.heads, -1).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.self_attn["out_proj"](mixed.transpose(1, 2).reshape(batch, time, width))
        added: Tensor = self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))
        return x + added


class Tower(nn.Module):
    """Log-mel frames in, one vector of the backbone's width for four of them out."""

    positions: Tensor

    def __init__(self, output: int, hop: int = HOP) -> None:
        super().__init__()
        self.hop = hop
        self.conv1 = nn.Conv1d(whisper.MELS, whisper.WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(whisper.WIDTH, whisper.WIDTH, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            Layer(whisper.WIDTH, whisper.HEADS, whisper.INNER) for _ in range(whisper.LAYERS)
        )
        self.ln_post = nn.LayerNorm(whisper.WIDTH)
        self.proj = nn.Linear(whisper.WIDTH, output)
        self.register_buffer("positions", sinusoids(POSITIONS, whisper.WIDTH), persistent=False)

    def features(self, mels: list[Tensor]) -> Heard:
        """The encoder's vectors before ``ln_post``, pooled in pairs."""
        lengths = torch.tensor([mel.shape[1] for mel in mels])
        most = int(lengths.max())
        padded = torch.stack([functional.pad(mel, (0, most - mel.shape[1])) for mel in mels])
        inside = torch.arange(most) < lengths[:, None]
        x = functional.gelu(self.conv1(padded)) * inside[:, None]
        x = functional.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        after = (lengths - 1) // 2 + 1
        mask = (torch.arange(x.shape[1]) < after[:, None])[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        pooled = after // 2
        whole = x.shape[1] // 2 * 2
        x = (x[:, 0:whole:2] + x[:, 1:whole:2]) / 2
        return Heard(x, pooled)

    def forward(self, mels: list[Tensor]) -> Heard:
        """The vectors that the backbone gets in place of token embeddings."""
        heard = self.features(mels)
        return Heard(self.proj(self.ln_post(heard.vectors)), heard.lengths)


def sinusoids(length: int, width: int) -> Tensor:
    """Whisper's position table."""
    rates = torch.exp(-np.log(10_000) / (width // 2 - 1) * torch.arange(width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def mel(samples: Samples, hop: int = HOP) -> Tensor:
    """Log-mel frames [80, time] as transformers' extractor makes them of the same sound."""
    waveform = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    frames = -(-len(samples) // hop)
    # The extractor fills a sound up to its longest length with silence.
    waveform = functional.pad(waveform, (FFT // 2, FFT + hop))
    waveform[: FFT // 2] = waveform[FFT // 2 + 1 : FFT + 1].flip(0)
    spectrum = torch.stft(
        waveform, FFT, hop, window=torch.hann_window(FFT), return_complex=True, center=False
    )
    log = torch.clamp(_filters() @ spectrum.abs() ** 2, min=1e-10).log10()[:, :frames]
    return (torch.maximum(log, log.max() - 8) + 4) / 4


@functools.cache
def _filters() -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(1 + FFT // 2, whisper.MELS, 0.0, 8000.0, RATE, "slaney", "slaney")
    return torch.from_numpy(bank.T.astype(np.float32))
