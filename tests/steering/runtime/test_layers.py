"""Decoder layers are found by structure, and doubt is an error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import UnsupportedModelError
from refusal_steering.runtime.layers import decoder_layers
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer

SIZE = 8


class TinyAttention(nn.Module):
    pass


class SplitLayer(nn.Module):
    """Keeps its residual apart, as Llama's and Qwen's layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = TinyAttention()

    def forward(self, hidden, residual=None):  # type: ignore[no-untyped-def]
        if residual is None:
            residual = torch.zeros_like(hidden)
        return hidden, residual


class JunkLayer(nn.Module):
    """Returns a second tensor that is no part of the stream, as Cohere's layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = TinyAttention()

    def forward(self, hidden, residual=None):  # type: ignore[no-untyped-def]
        return hidden, hidden * 100


class OneTensorLayer(JunkLayer):
    def forward(self, hidden, residual=None):  # type: ignore[no-untyped-def]
        return hidden


class Gemma3nDecoderLayer(SplitLayer):
    pass


class Derived(Gemma3nDecoderLayer):
    """A refused layer under another name."""


class Tower(nn.Module):
    """A model with an encoder whose list is as long as the decoder's."""

    def __init__(self, layer: type[nn.Module] = SplitLayer) -> None:
        super().__init__()
        self.visual = nn.ModuleList(SplitLayer() for _ in range(3))
        self.language_model = nn.Module()
        self.language_model.layers = nn.ModuleList(layer() for _ in range(3))

    def get_language_model(self) -> nn.Module:
        return self.language_model

    @property
    def decoder(self) -> nn.ModuleList:
        layers = self.language_model.layers
        assert isinstance(layers, nn.ModuleList)
        return layers


def test_the_language_model_is_searched_and_towers_are_not() -> None:
    model = Tower()
    assert decoder_layers(model, 3) is model.decoder


@pytest.mark.parametrize("count", [2, 4])
def test_no_list_of_that_length_is_an_error(count: int) -> None:
    with pytest.raises(UnsupportedModelError, match="decoder layers"):
        decoder_layers(Tower(), count)


def test_two_lists_of_that_length_are_an_error() -> None:
    model = nn.ModuleDict({"a": Tower().visual, "b": Tower().visual})
    with pytest.raises(UnsupportedModelError, match=r"a.*b"):
        decoder_layers(model, 3)


def test_a_list_without_attention_does_not_count() -> None:
    model = nn.Sequential(nn.ModuleList(nn.Linear(2, 2) for _ in range(3)))
    with pytest.raises(UnsupportedModelError):
        decoder_layers(model, 3)


@pytest.mark.parametrize("layer", [Gemma3nDecoderLayer, Derived])
def test_models_with_another_kind_of_stream_are_refused(layer: type[nn.Module]) -> None:
    with pytest.raises(UnsupportedModelError, match=f"{layer.__name__} does not carry one plain"):
        decoder_layers(Tower(layer), 3)


@pytest.mark.parametrize(
    ("layer", "place", "seen"),
    [(SplitLayer, 1, 3.0), (JunkLayer, None, 1.0), (OneTensorLayer, None, 1.0)],
)
def test_the_stream_is_read_as_the_layer_keeps_it(
    layer: type[nn.Module], place: int | None, seen: float
) -> None:
    engine, steered = steer_first_unit(layer, place)
    engine.admit("r", range(1), {"bundle": engine.bundles[0], "policy": "p", "policy_version": "v"})
    engine.begin(["r"], [0], [1])
    hidden, residual = torch.ones(1, SIZE), 2 * torch.ones(1, SIZE)
    output = steered(hidden.clone(), residual)
    output = output[0] if isinstance(output, tuple) else output
    assert output[0, 0] == 1.0 + seen
    assert torch.equal(output[0, 1:], torch.ones(SIZE - 1))


@pytest.mark.parametrize("graph_rows", [0, 8])
def test_a_batch_dimension_of_one_does_not_hide_the_rows(graph_rows: int) -> None:
    engine, steered = steer_first_unit(OneTensorLayer, None, graph_rows)
    engine.admit("r", range(3), {"bundle": engine.bundles[0], "policy": "p", "policy_version": "v"})
    engine.begin(["r"], [0], [3])
    output = steered(torch.ones(1, 3, SIZE))
    assert output.shape == (1, 3, SIZE)
    assert output[0, :, 0].tolist() == [1.0, 1.0, 2.0]
    assert torch.equal(output[..., 1:], torch.ones(1, 3, SIZE - 1))


def steer_first_unit(
    layer: type[nn.Module], place: int | None, graph_rows: int = 0
) -> tuple[ResidualSteering, nn.Module]:
    """A layer that adds to unit 0 of its stream what that unit holds."""
    direction = torch.eye(SIZE)[0]
    steering = LayerSteering(
        direction, torch.eye(SIZE)[:1], torch.zeros(1), torch.ones(1), 0.0, 0.0, 99.0,
        torch.zeros(SIZE), 0.0,
    )  # fmt: skip
    steered = layer()
    engine = ResidualSteering(
        {1: DecoderLayer(steered, place)},
        hidden_size=SIZE,
        num_layers=3,
        capacity=Capacity(bundle_slots=2, units=4, requests=4, tokens=8, graph_rows=graph_rows),
        device=torch.device("cpu"),
    )
    load(engine, steering, SIZE)
    return engine, steered


def load(engine: ResidualSteering, steering: LayerSteering, size: int) -> None:
    import tempfile
    from pathlib import Path

    from refusal_steering.bundle import save_bundle

    with tempfile.TemporaryDirectory() as folder:
        bundle = save_bundle(
            Path(folder),
            {1: steering},
            {
                "name": "unit",
                "strategy": "omnisteer",
                "model": {"id": "m", "hidden_size": size, "num_layers": 3},
            },
        )
        engine.load(bundle.packed)
