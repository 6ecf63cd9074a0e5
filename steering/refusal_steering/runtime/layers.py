"""Where the residual stream is: find the decoder layers of any supported model and put the
operator behind the chosen ones.

Layers are found by structure, inside the language model only: vision and audio towers may have
lists of the same length.
"""

from __future__ import annotations

import inspect
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

# What is called behind a decoder layer, with the layer, its rows and their residual.
Operator = Callable[[Any, Tensor, Tensor | None], None]

# Models whose layers do not hand on one residual stream [T, H]: four parallel streams; a stream
# scaled by the router in half precision.
REFUSED = ("Gemma3n", "DeepseekV2", "DeepseekV3")
# vLLM's kinds of attention that see what comes after a token.
_ENCODING = ("encoder", "encoder_only")


def decoder_layers(model: nn.Module, num_layers: int) -> nn.ModuleList:
    """The decoder layers of ``model``'s language model, in order.

    Raises :class:`UnsupportedModelError` when none, or more than one list, fits, and for layers
    that cannot be steered.
    """
    language_model = getattr(model, "get_language_model", lambda: model)()
    # By the layers themselves: Gemma 4 lists the same ones twice.
    found: dict[tuple[nn.Module, ...], tuple[str, nn.ModuleList]] = {}
    for name, module in language_model.named_modules():
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


def adds_residual(layer: nn.Module) -> bool:
    """Whether the stream is the sum of the layer's two outputs.

    A layer that starts its residual from ``None`` keeps it apart from then on. Layers that do
    not hand over a full stream in their first output, and the second is of no use to us. The
    arity of the final norm does not tell the two kinds apart.
    """
    _refuse(layer)
    original = getattr(type(layer), "_steering_original", type(layer))
    try:
        source = inspect.getsource(original.forward)
    except (OSError, TypeError) as error:
        raise UnsupportedModelError(
            f"the source of {original.__name__}.forward cannot be read, so its residual stream "
            "is unknown"
        ) from error
    return "residual is None" in source


def attach(
    layers: Mapping[int, nn.Module],
    banks: Mapping[int, LayerBank],
    buffers: StepBuffers,
    engine: int,
    reader: PromptReader | None = None,
) -> None:
    """Put the operators behind each layer of ``layers``: first the reader's, then steering's.

    The class is swapped, not hooked: a Python hook is traced once and then folded away by
    ``torch.compile``. Parameter names, weights and adapters stay as they are.
    """
    for index, layer in layers.items():
        original, split, operators = type(layer), adds_residual(layer), list[Operator]()
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
            fields["_steering_engine"] = engine
        for name, value in fields.items():
            setattr(layer, name, value)
        layer.__class__ = steered_class(original, split, operators)


def steered_class(
    original: type[nn.Module], split: bool, operators: Sequence[Operator]
) -> type[nn.Module]:
    """A decoder layer's class that calls ``operators`` behind its forward pass.

    ``split`` says that the stream is the sum of both outputs.
    """
    behind = tuple(operators)

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original.forward(self, *args, **kwargs)
        hidden = output[0] if isinstance(output, tuple) else output
        residual = output[1] if split and isinstance(output, tuple) else None
        # vLLM's Transformers backend has a batch dimension of one.
        rows = hidden if hidden.dim() == 2 else hidden.view(-1, hidden.shape[-1])
        for apply in behind:
            apply(self, rows, residual)
        return output

    body = {"forward": forward, "_steering_original": original, "operators": behind}
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
        self._steering_state,
        self._steering_tokens,
        self._steering_strength,
        self._steering_computing,
        self._steering_max_dose,
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
        "state": bank.state,
        "tokens": buffers.tokens,
        "strength": buffers.strength,
        "computing": buffers.computing,
        "max_dose": buffers.max_dose,
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
    if name.startswith(REFUSED):
        raise UnsupportedModelError(f"{name} does not carry one plain residual stream")
    if any(getattr(module, "attn_type", None) in _ENCODING for module in layer.modules()):
        raise UnsupportedModelError(f"{name} only encodes its input; steering needs a decoder")


def _fits(module: nn.Module, num_layers: int) -> TypeGuard[nn.ModuleList]:
    return (
        isinstance(module, nn.ModuleList)
        and len(module) == num_layers
        and any("attention" in type(part).__name__.lower() for part in module.modules())
    )
