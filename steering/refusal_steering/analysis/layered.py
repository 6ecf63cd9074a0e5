"""Residual rows that are read one layer at a time, so that no more than one is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class LayeredRows(Protocol):
    """Rows of N prompts behind some decoder layers, with what is known of each prompt."""

    @property
    def layers(self) -> Sequence[int]:
        """Numbers of the layers, ascending."""

    @property
    def harmful(self) -> Tensor:
        """Bool mask [N]."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The form or the modality of each row."""

    @property
    def splits(self) -> tuple[str, ...]:
        """``train``, ``tune`` or ``held`` for each row."""

    def layer(self, index: int) -> Tensor:
        """Rows [N, H] in float32 behind one layer."""
