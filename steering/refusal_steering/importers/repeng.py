"""Control vectors of repeng (``ControlVector.export_gguf``).

repeng numbers decoder blocks from 0 and measures and adds after the block, so its numbers are
ours, and block 0 is possible. Its directions are principal components of length 1, or sums and
multiples of them.
"""

from __future__ import annotations

from pathlib import Path

from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.control_vector import hints, load_gguf
from refusal_steering.importers.imported import Imported
from refusal_steering.importers.vectors import vectors_by_layer


def read_repeng(path: Path) -> Imported:
    """A GGUF export of repeng; raises :class:`UnusableSourceError`."""
    if path.suffix != ".gguf":
        raise UnusableSourceError(
            f"{path} is not a GGUF file; pickled ControlVector objects are not read because they "
            "can run code. Write it with ControlVector.export_gguf(path)"
        )
    vector = load_gguf(path)
    directions = vectors_by_layer(vector.directions, str(path))
    return Imported("repeng control vector", directions, notes=hints(vector))
