"""The stream is measured on what the next module makes of it, and doubt is an error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from refusal_steering.errors import UnsupportedModelError
from refusal_steering.runtime.stream import DecoderLayer, distance, measure_streams

ROWS, SIZE, DEPTH = 6, 32, 3


class Norm(nn.Module):
    """Root mean square norm; with a residual it returns the sum too, as vLLM's does."""

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        if residual is None:
            return nn.functional.rms_norm(x, (SIZE,))
        residual += x
        x.copy_(nn.functional.rms_norm(residual, (SIZE,)))
        return x, residual


class Layer(nn.Module):
    """One output that is the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Norm()
        self.mix = nn.Linear(SIZE, SIZE)

    def forward(self, hidden: Tensor) -> Any:
        return hidden + self.mix(self.norm(hidden))


class Split(Layer):
    """The residual is the second output."""

    def forward(self, hidden: Tensor, residual: Tensor | None = None) -> Any:
        if residual is None:
            residual = hidden
            hidden = self.norm(hidden)
        else:
            hidden, residual = self.norm(hidden, residual)
        return self.mix(hidden), residual


class Delegating(Split):
    """The same, where the class's own source does not say so."""

    def forward(self, *given: Any) -> Any:
        return super().forward(*given)


class Third(Split):
    """The residual is the third output."""

    def forward(self, hidden: Tensor, _: None = None, residual: Tensor | None = None) -> Any:  # type: ignore[override]
        hidden, residual = super().forward(hidden, residual)
        return hidden, None, residual


class Junk(Layer):
    """The second output is no part of the stream."""

    def forward(self, hidden: Tensor, residual: Tensor | None = None) -> Any:
        return hidden + self.mix(self.norm(hidden)), hidden


class PostNorm(Layer):
    """The stream goes through a projection first."""

    def forward(self, hidden: Tensor) -> Any:
        return hidden + self.norm(self.mix(hidden))


class Unreduced(Split):
    """Hands on half of what the next layer adds, as a rank of two does before it is reduced."""

    def forward(self, hidden: Tensor, residual: Tensor | None = None) -> Any:
        hidden, residual = super().forward(2 * hidden, residual)
        return hidden, residual


class Aliased(Split):
    """Both outputs are one tensor, so that a write counts twice."""

    def forward(self, hidden: Tensor, residual: Tensor | None = None) -> Any:
        whole = hidden if residual is None else hidden + residual
        half = (whole + self.mix(self.norm(whole))) / 2
        return half, half


class Streams(Layer):
    """Two streams for each token."""

    def forward(self, hidden: Tensor) -> Any:
        return torch.stack([hidden, hidden], 1)


class Shortened(Layer):
    def forward(self, hidden: Tensor) -> Any:
        return hidden[: ROWS // 2]


class Model(nn.Module):
    """A model of equal layers; ``between`` stands between them."""

    def __init__(self, kind: type[nn.Module], *, batched: bool = False, final: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(kind() for _ in range(DEPTH))
        self.norm = Norm() if final else None
        self.batched = batched

    def forward(self) -> Tensor:
        state: Any = torch.zeros(1, ROWS, SIZE) if self.batched else torch.zeros(ROWS, SIZE)
        for layer in self.layers:
            state = layer(*state) if isinstance(state, tuple) else layer(state)
        parts = (
            [part for part in state if part is not None] if isinstance(state, tuple) else [state]
        )
        if isinstance(self.layers[0], Junk):
            parts = parts[:1]
        if self.norm is None:
            first: Tensor = parts[0]
            return first
        made = self.norm(*parts)
        found: Tensor = made[0] if isinstance(made, tuple) else made
        return found

    def measure(self) -> tuple[list[DecoderLayer], list[Tensor]]:
        return measure_streams(self, list(self.layers), self, rows=ROWS, size=SIZE)


@pytest.mark.parametrize(
    ("kind", "place"),
    [(Layer, None), (Split, 1), (Delegating, 1), (Third, 2), (Junk, None), (PostNorm, None)],
)
def test_the_reading_is_found_whatever_the_class_says(
    kind: type[nn.Module], place: int | None
) -> None:
    model = Model(kind)
    layers, streams = model.measure()
    assert [layer.module for layer in layers] == list(model.layers)
    assert [layer.residual for layer in layers] == [place] * DEPTH
    assert all(stream.shape == (ROWS, SIZE) for stream in streams)


def test_a_batch_dimension_of_one_is_plain() -> None:
    layers, streams = Model(Layer, batched=True).measure()
    assert [layer.residual for layer in layers] == [None] * DEPTH
    assert streams[0].shape == (1, ROWS, SIZE)


def test_without_a_final_norm_the_models_states_are_the_stream() -> None:
    assert [layer.residual for layer in Model(Layer, final=False).measure()[0]] == [None] * DEPTH


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Unreduced, r"its first output is off by [\d.]+, its sum with output 1 is off by"),
        (Aliased, "a write to its first output changes output 1"),
        (Streams, rf"its output is \[{ROWS}, 2, {SIZE}\] in a step of {ROWS} tokens; expected"),
        (Shortened, rf"its output is \[{ROWS // 2}, {SIZE}\] in a step of {ROWS} tokens"),
    ],
)
def test_what_fits_no_reading_is_refused_with_what_was_seen(
    kind: type[nn.Module], words: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=words) as caught:
        Model(kind).measure()
    assert str(caught.value).startswith(kind.__name__)
    assert "without steering" in str(caught.value)


def test_layers_that_a_step_runs_twice_are_refused() -> None:
    class Looped(Model):
        def forward(self) -> Tensor:
            super().forward()
            return super().forward()

    with pytest.raises(UnsupportedModelError, match="calls a layer of it 2 times; expected one"):
        Looped(Layer).measure()


def test_what_changes_the_stream_between_layers_is_refused() -> None:
    class Mixed(Model):
        def forward(self) -> Tensor:
            state = torch.zeros(ROWS, SIZE)
            for layer in self.layers:
                state = layer(state) + torch.linspace(-1, 1, SIZE)
            return nn.functional.rms_norm(state, (SIZE,))

    with pytest.raises(UnsupportedModelError, match="norm makes of its outputs"):
        Mixed(Layer).measure()


@pytest.mark.parametrize(("kind", "place"), [(Split, 1), (Junk, None), (Layer, None)])
def test_half_precision_is_told_from_a_wrong_reading(
    kind: type[nn.Module], place: int | None
) -> None:
    class Half(Model):
        def forward(self) -> Tensor:
            with torch.device("cpu"):
                torch.set_default_dtype(torch.bfloat16)
                try:
                    return super().forward()
                finally:
                    torch.set_default_dtype(torch.float32)

    layers, _ = Half(kind).to(torch.bfloat16).measure()
    assert [layer.residual for layer in layers] == [place] * DEPTH


def test_nothing_of_it_stays_on_the_model() -> None:
    model = Model(Layer)
    before = model()
    model.measure()
    assert torch.equal(model(), before)


def test_a_distance_is_that_of_the_farthest_row() -> None:
    expected = torch.eye(3)
    found = expected.clone()
    found[1, 0] = 0.5
    assert distance(found, expected) == pytest.approx(0.5)
    assert distance(found, expected[:2]) == torch.inf
    assert distance(found, expected * torch.nan) == torch.inf
    found[1] = expected[1] = torch.nan
    assert distance(found, expected) == 0.0
