"""What an importer returns: raw vectors by layer, adapters if there are any, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from refusal_steering.errors import UnusableSourceError


@dataclass(frozen=True, slots=True)
class Adapter:
    """k = output_weight . relu(input_weight h + input_bias) + output_bias, in float32.

    Shapes: ``input_weight`` [D, H]; ``input_bias`` and ``output_weight`` [D]. The result counts
    residual-stream units along the unit vector.
    """

    input_weight: Tensor
    input_bias: Tensor
    output_weight: Tensor
    output_bias: float


@dataclass(frozen=True, slots=True)
class Imported:
    """Raw vectors [H] in float32 by 0-based layer (added after that block), lengths as found.

    ``adapters`` is empty or has every layer to steer.
    """

    source: str
    vectors: Mapping[int, Tensor]
    adapters: Mapping[int, Adapter] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.vectors:
            raise UnusableSourceError(f"{self.source}: there is no vector in it")
        sizes = {vector.shape[0] for vector in self.vectors.values()}
        sizes |= {adapter.input_weight.shape[1] for adapter in self.adapters.values()}
        if len(sizes) != 1:
            raise UnusableSourceError(
                f"{self.source}: vectors and adapters have the widths {sorted(sizes)}, expected "
                "one hidden size; they are not of one model"
            )
        missing = sorted(set(self.adapters) - set(self.vectors))
        if missing:
            raise UnusableSourceError(
                f"{self.source}: no vector for the adapters of layers {missing}; vectors exist "
                f"for layers {sorted(self.vectors)}"
            )

    @property
    def hidden_size(self) -> int:
        """Width H of the residual stream."""
        return next(iter(self.vectors.values())).shape[0]
