"""Residual rows of a file or a folder, read as a whole."""

from __future__ import annotations

from pathlib import Path

from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.stored_rows.folder import RowFolder


def read_rows(path: Path) -> ActivationFile:
    """The rows of an activation file, or of a folder ``work/rows-*`` of a build, in bfloat16.

    Raises ``ActivationFileError``.
    """
    if not path.is_dir():
        return ActivationFile.load(path)
    folder = RowFolder.open(path)
    return ActivationFile(
        rows={layer: folder.layer(layer).bfloat16() for layer in folder.layers},
        harmful=folder.harmful,
        groups=folder.groups,
        splits=folder.splits,
        model=folder.model,
        prompts_sha256=folder.index.requests_sha256,
    )
