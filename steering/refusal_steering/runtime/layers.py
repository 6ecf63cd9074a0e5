"""Where the residual stream is: find the decoder layers of any supported model and put the
operator behind the chosen ones.

Layers are found by structure, inside the language model only: vision and audio towers may have
lists of the same length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeGuard

from torch import Tensor, nn

from refusal_steering.errors import UnsupportedModelError
from refusal_steering.runtime import operator
from refusal_steering.runtime.bank import LayerBank
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.gate import operator as gate_operator
from refusal_steering.runtime.gate.reader import PromptReader
from refusal_steering.runtime.stream import DecoderLayer, Place, parts

# What is called behind a decoder layer, with the layer, its rows and their residual.
Operator = Callable[[Any, Tensor, Tensor | None], None]

# Models, by the beginning of a class's name, whose layers never hand on one residual stream [T, H]:
# several parallel streams; a stream that the router scales in half precision. They are refused
# before their weights are read, and so are classes that are made of theirs.
REFUSED = ("Gemma3n", "DeepseekV2", "DeepseekV3", "DeepseekV4", "Dots3Note", "Qwen4Exp")
# vLLM's kinds of attention that see what comes after a token.
_ENCODING = ("encoder", "encoder_only")


def decoder_layers(model: nn.Module, num_layers: int) -> nn.ModuleList:
    """The decoder layers of ``model``'s language model, in order.

    Raises :class:`UnsupportedModelError` when none, or more than one list, fits, and for layers
    that cannot be steered.
    """
    # By the layers themselves: Gemma 4 lists the same ones twice.
    found: dict[tuple[nn.Module, ...], tuple[str, nn.ModuleList]] = {}
    for name, module in language_model(model).named_modules():
        if _fits(module, num_layers):
            found.setdefault(tuple(module), (name, module))
    for layer in chain.from_iterable(found):
        _refuse(layer)
    if len(found) != 1:
        names = ", ".join(name for name, _ in found.values()) or "none"
        raise UnsupportedModelError(
            f"{type(model).__name__} has no single list of {num_layers} decoder layers (found: "
            f"{names}); steering needs one. Serve it without steering, or report the model."
        )
    ((_, layers),) = found.values()
    return layers


def language_model(model: nn.Module) -> nn.Module:
    """The part of ``model`` that writes text: all of it where it takes nothing else."""
    found: nn.Module = getattr(model, "get_language_model", lambda: model)()
    return found


def attach(
    layers: Mapping[int, DecoderLayer],
    banks: Mapping[int, LayerBank],
    buffers: StepBuffers,
    engine: int,
    reader: PromptReader | None = None,
) -> None:
    """Put the operators behind each layer of ``layers``: first the reader's, then steering's.

    The class is swapped, not hooked: a Python hook is traced once and then folded away by
    ``torch.compile``. Parameter names, weights and adapters stay as they are.
    """
    for index, known in layers.items():
        layer, operators = known.module, list[Operator]()
        # The fields are this module's own, on the class that it is about to put in.
        fields: dict[str, object] = {}
        if reader is not None and index in reader.layers:
            operators.append(_read)
            layer.register_buffer("_steering_gate", reader.bank.state, persistent=False)
            fields["_steering_place"] = reader.layers.index(index)
            fields["_steering_reader"] = reader.engine
        if index in banks:
            operators.append(_steer)
            for name, tensor in _graph_inputs(banks[index], buffers, reader).items():
                layer.register_buffer(f"_steering_{name}", tensor, persistent=False)
            fields["_steering_bank"] = banks[index].place
            fields["_steering_engine"] = engine
        for name, value in fields.items():
            setattr(layer, name, value)
        layer.__class__ = steered_class(type(layer), known.residual, operators)


def steered_class(
    original: type[nn.Module], residual_at: Place, operators: Sequence[Operator]
) -> type[nn.Module]:
    """A decoder layer's class that calls ``operators`` behind its forward pass.

    ``residual_at`` is the place of the output that is added to the first one for the stream.
    """
    behind = tuple(operators)

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original.forward(self, *args, **kwargs)
        hidden, residual = parts(output, residual_at)
        # vLLM's Transformers backend has a batch dimension of one.
        rows = hidden if hidden.dim() == 2 else hidden.view(-1, hidden.shape[-1])
        for apply in behind:
            apply(self, rows, residual)
        return output

    body = {"forward": forward, "residual_at": residual_at, "operators": behind}
    return type(f"Steered{original.__name__}", (original,), body)


def _read(self: Any, hidden: Tensor, residual: Tensor | None) -> None:
    gate_operator.OP(
        hidden,
        residual,
        self._steering_gate,
        self._steering_place,
        self._steering_reader,
    )


def _steer(self: Any, hidden: Tensor, residual: Tensor | None) -> None:
    operator.OP(
        hidden,
        residual,
        self._steering_states,
        self._steering_bank,
        self._steering_entries,
        self._steering_weight,
        self._steering_bias,
        self._steering_output,
        self._steering_scalars,
        self._steering_direction,
        self._steering_gate,
        self._steering_floor,
        self._steering_ball,
        self._steering_radius,
        self._steering_engine,
    )


def _graph_inputs(
    bank: LayerBank, buffers: StepBuffers, reader: PromptReader | None
) -> dict[str, Tensor | None]:
    return {
        "states": bank.states,
        "entries": buffers.entries,
        "weight": bank.weight,
        "bias": bank.bias,
        "output": bank.output,
        "scalars": bank.scalars,
        "direction": bank.direction,
        "gate": None if reader is None else reader.bank.state,
        "floor": None if reader is None else reader.bank.floor,
        "ball": bank.ball,
        "radius": bank.radius,
    }


def _refuse(layer: nn.Module) -> None:
    name = type(layer).__name__
    for kind in type(layer).__mro__:
        if kind.__name__.startswith(REFUSED):
            derived = "" if kind.__name__ == name else f", because it is a {kind.__name__}"
            raise UnsupportedModelError(
                f"{name} does not carry one plain residual stream{derived}. Serve this model "
                "without steering, or choose another"
            )
    if any(getattr(module, "attn_type", None) in _ENCODING for module in layer.modules()):
        raise UnsupportedModelError(f"{name} only encodes its input; steering needs a decoder")


def _fits(module: nn.Module, num_layers: int) -> TypeGuard[nn.ModuleList]:
    return (
        isinstance(module, nn.ModuleList)
        and len(module) == num_layers
        and any("attention" in type(part).__name__.lower() for part in module.modules())
    )
