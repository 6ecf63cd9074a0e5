"""Where a decoder layer keeps the residual stream: measured on the loaded model at start.

Sources and class names do not tell. A layer's first output may be the stream, or only a part of it
to which the next layer adds another output. So one small step is run with random rows, what every
layer hands on is changed in place as steering would change it, and what the next module makes of
it is compared with what that module makes of each reading of the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from refusal_steering.errors import UnsupportedModelError

Place = int | None
"""Which output is added to a layer's first one for the stream; ``None`` for none."""
Output = Tensor | Sequence[Tensor | None]

# Embeddings of trained models are about this long for each unit, so that every layer matters.
_SCALE = 0.02
# Off by this much, relative to the row: rounding of sums in half precision is below .01.
_FITS = {torch.float32: 2e-3, torch.float64: 2e-3}
_FITS_HALF = 0.05
# The reading that fits is closer than any other by this factor.
_CLEARLY = 4.0
_ROUNDING = 2e-4


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """A decoder layer, and the place of the output that is added to its first for the stream."""

    module: nn.Module
    residual: Place


def parts(output: Output, residual_at: Place) -> tuple[Tensor, Tensor | None]:
    """The output that steering writes to, and what is added to it for the stream."""
    if isinstance(output, Tensor):
        return output, None
    first = output[0]
    assert first is not None
    return first, None if residual_at is None else output[residual_at]


def measure_streams(
    model: nn.Module,
    layers: Sequence[nn.Module],
    step: Callable[[], object],
    *,
    rows: int,
    size: int,
) -> tuple[list[DecoderLayer], list[Tensor]]:
    """Every layer with its reading, and the streams [T, H] of the step that was run.

    ``step`` runs ``model``, the language model that holds ``layers``, once, without compilation, on
    ``rows`` tokens; it returns the model's last states, or anything else. ``size`` is the stream's
    width. Raises :class:`UnsupportedModelError` that says what was seen where no reading fits.
    """
    watch = _Watch(layers, rows, size)
    with torch.inference_mode(), _hooked(model, layers, watch):
        watch.end(step())
    found = dict[type[nn.Module], Place]()
    for kind in dict.fromkeys(map(type, layers)):
        seen = [one for one, layer in zip(watch.seen, layers, strict=True) if type(layer) is kind]
        found[kind] = _resolved(kind.__name__, seen)
    places = [found[type(layer)] for layer in layers]
    streams = [seen.streams[place] for seen, place in zip(watch.seen, places, strict=True)]
    return [DecoderLayer(*one) for one in zip(layers, places, strict=True)], streams


@dataclass(slots=True)
class _Seen:
    """What one layer has handed on, and how far each reading is from what was made of it."""

    calls: int = 0
    streams: dict[Place, Tensor] = field(default_factory=dict)
    consumer: str = ""
    distances: dict[Place, float] = field(default_factory=dict)


class _Watch:
    """Follows one step from layer to layer."""

    def __init__(self, layers: Sequence[nn.Module], rows: int, size: int):
        self.seen = [_Seen() for _ in layers]
        self._names = [type(layer).__name__ for layer in layers]
        self._rows, self._size = rows, size
        self._random = torch.Generator().manual_seed(0)
        self._waiting: _Seen | None = None

    def give_random_rows(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Put random rows in the place of the first layer's input, which may be all zeros."""
        given = [*args, *kwargs.values()]
        for at, value in enumerate(given):
            if isinstance(value, Tensor) and value.is_floating_point():
                self._check_shape(type(layer).__name__, "its input is", value)
                given[at] = self._noise(value) * _SCALE
                break
        return tuple(given[: len(args)]), dict(zip(kwargs, given[len(args) :], strict=True))

    def after_layer(self, index: int, output: Any) -> None:
        """Change what a layer hands on, and note every reading of it."""
        name, seen = self._names[index], self.seen[index]
        parts = [output] if isinstance(output, Tensor) else list(output)
        first = parts[0] if parts else None
        if not isinstance(first, Tensor):
            raise _refusal(name, f"its output is {type(first).__name__}", "a tensor")
        self._check_shape(name, "its output is", first)
        others = {
            at: part.clone()
            for at, part in enumerate(parts[1:], 1)
            if isinstance(part, Tensor) and part.shape == first.shape
        }
        first.add_(self._noise(first) * (first.float().square().mean().sqrt() + _SCALE))
        shared = [at for at, part in others.items() if not _equal(part, parts[at])]
        if shared:
            raise _refusal(name, f"a write to its first output changes output {shared[0]}", "none")
        # Copies, because the next layer writes where this one has.
        seen.calls += 1
        seen.streams = {None: first.clone()}
        seen.streams |= {
            at: (first.float() + part.float()).to(first.dtype) for at, part in others.items()
        }
        self._waiting = seen

    def after_module(
        self, name: str, module: nn.Module, given: Sequence[object], output: Any
    ) -> None:
        """Compare what the first module behind a layer has made of the stream."""
        seen = self._waiting
        if seen is None or not any(self._is_stream(value) for value in given):
            return
        made = _first(output)
        if made is None:
            return
        try:
            again = {at: _first(module.forward(one.clone())) for at, one in seen.streams.items()}
        # A module that needs more than the stream says nothing about it; the next one may.
        except Exception:
            return
        seen.distances = {at: distance(one, made) for at, one in again.items() if one is not None}
        seen.consumer, self._waiting = name, None

    def end(self, states: object) -> None:
        """Compare the model's last states, where no module has made anything of them."""
        if self._waiting is not None and isinstance(states, Tensor):
            streams = self._waiting.streams
            self._waiting.distances = {at: distance(one, states) for at, one in streams.items()}
            self._waiting.consumer = "the model's output"
        for name, seen in zip(self._names, self.seen, strict=True):
            if seen.calls != 1:
                raise _refusal(name, f"a step calls a layer of it {seen.calls} times", "one call")

    def _is_stream(self, value: object) -> bool:
        return (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and value.shape[-1:] == (self._size,)
        )

    def _check_shape(self, name: str, what: str, value: Tensor) -> None:
        plain = (self._rows, self._size)
        # vLLM's Transformers backend has a batch dimension of one.
        if tuple(value.shape) not in (plain, (1, *plain)):
            raise _refusal(
                name, f"{what} {list(value.shape)} in a step of {self._rows} tokens", list(plain)
            )

    def _noise(self, like: Tensor) -> Tensor:
        # Equal on every rank, whatever its device.
        return torch.randn(like.shape, generator=self._random).to(like)


@contextmanager
def _hooked(model: nn.Module, layers: Sequence[nn.Module], watch: _Watch) -> Iterator[None]:
    """Show ``watch`` every layer's output and what the modules of ``model`` make of it."""
    own = set(map(id, layers))
    names = [name for name, one in model.named_modules(remove_duplicate=False) if id(one) in own]
    # A module around the layers returns after them, and has been given no stream.
    around = {name[:end] for name in names for end in _ends(name)}
    handles = [layers[0].register_forward_pre_hook(watch.give_random_rows, with_kwargs=True)]
    for index, layer in enumerate(layers):
        handles.append(layer.register_forward_hook(_shown_layer(watch, index)))
    for name, module in model.named_modules():
        if name not in around and id(module) not in own:
            shown = _shown_module(watch, name)
            handles.append(module.register_forward_hook(shown, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ends(name: str) -> list[int]:
    return [0, *(at for at, letter in enumerate(name) if letter == ".")]


def _shown_layer(watch: _Watch, index: int) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        watch.after_layer(index, output)

    return hook


def _shown_module(
    watch: _Watch, name: str
) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        watch.after_module(name, module, [*args, *kwargs.values()], output)

    return hook


def distance(found: Tensor, expected: Tensor) -> float:
    """How far rows are from what was expected: the farthest row's error, relative to its length.

    Rows that are not finite are left out; where no other is left, the distance is infinite.
    """
    found, expected = (one.float().reshape(-1, one.shape[-1]) for one in (found, expected))
    if found.shape != expected.shape:
        return torch.inf
    length = expected.norm(dim=-1)
    good = length.isfinite() & (length > 0)
    errors = ((found - expected).norm(dim=-1) / length)[good]
    return float(errors.max()) if len(errors) else torch.inf


def _resolved(name: str, seen: Sequence[_Seen]) -> Place:
    """The one reading that fits all layers of a kind."""
    dtype = next(iter(seen[0].streams.values())).dtype
    limit = _FITS.get(dtype, _FITS_HALF)
    worst = {at: max(one.distances.get(at, torch.inf) for one in seen) for at in seen[0].streams}
    told = ", ".join(f"{_words(at)} is off by {off:.2g}" for at, off in worst.items())
    best, *others = sorted(worst, key=lambda at: worst[at])
    if worst[best] > limit:
        consumer = next((one.consumer for one in seen if one.consumer), "no module")
        read = f"measured by what {consumer} makes of its outputs, {told}"
        raise _refusal(name, read, f"at most {limit:g} for one of them")
    if others and worst[others[0]] < _CLEARLY * max(worst[best], _ROUNDING):
        raise _refusal(name, f"several readings of its outputs fit ({told})", "one of them only")
    return best


def _words(place: Place) -> str:
    return "its first output" if place is None else f"its sum with output {place}"


def _refusal(name: str, seen: str, expected: object) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{name} does not carry one plain residual stream: {seen}; expected {expected}. Serve this "
        "model without steering, or choose another"
    )


def _first(output: Any) -> Tensor | None:
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, Tensor) and first.is_floating_point() else None


def _equal(one: Tensor, other: Tensor) -> bool:
    # Memory as it was found may hold what is no number.
    return torch.equal(one.nan_to_num(), other.nan_to_num())
