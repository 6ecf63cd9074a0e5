"""Let a CUDA-linked torchvision be imported beside a CPU-only torch.

The package index carries only CUDA builds of torchvision. Next to a CPU torch their compiled part
does not load, and ``import torchvision`` then fails with "operator torchvision::nms does not
exist": the package attaches shape rules to two operators that nobody has declared. Declaring the
two is enough, because image and video processors use the part that is plain PyTorch.

``cpu_media.py`` copies this file into site-packages with a ``.pth`` line that imports it, so the
engine's spawned processes have it too. It costs nothing until somebody imports torchvision.
"""

from __future__ import annotations

import importlib.abc
import sys

_OPERATORS = ("nms", "qnms")
_SCHEMA = "{}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# The declarations live as long as the Library object that made them.
_libraries: list[object] = []


class _DeclareOperators(importlib.abc.MetaPathFinder):
    """Watch for the first import of torchvision; find nothing, declare the operators."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Declare the missing operators once, then leave the import to the usual finders."""
        del path, target
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare()


def _declare() -> None:
    import torch

    if torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(_SCHEMA.format(name))
    _libraries.append(library)


sys.meta_path.insert(0, _DeclareOperators())
