"""What the stages of a build leave behind, each file named by all that it depends on.

A stage whose file is there is not run again, whoever was interrupted and whenever. Files are
written as a whole, so that a build that is ended loses the stage that it was in.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusal_steering.errors import SteeringError
from refusal_steering.tensor_file import save_tensors

FOLDER = "work"
_log = logging.getLogger(__name__)
_FORMAT = "refusal-steering-stage-1"


@dataclass(frozen=True, slots=True)
class Kept:
    """What a stage found: tensors by name, and facts of JSON's own kinds.

    ``digest`` names what it depends on; a stage that uses it depends on that.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """The folder of a build's stages."""

    folder: Path

    def kept(self, stage: str, inputs: Mapping[str, Any], make: Callable[[], Kept]) -> Kept:
        """What ``make`` finds, read from disk where it was found before from the same ``inputs``.

        Raises ``SteeringError`` as ``make`` does; nothing is kept then.
        """
        digest = digest_of(stage, inputs)
        path = self.folder / f"{stage}-{digest[:16]}.safetensors"
        if path.exists():
            _log.info("%s: kept from before", stage)
            return _read(path, digest)
        found = make()
        header = {"format": _FORMAT, "facts": json.dumps(dict(found.facts)), "digest": digest}
        save_tensors(path, dict(found.tensors), header)
        return Kept(found.tensors, found.facts, digest)

    def place(self, stage: str, inputs: Mapping[str, Any]) -> tuple[Path, str]:
        """A folder of its own for a stage that keeps what it has in parts, and its digest."""
        digest = digest_of(stage, inputs)
        return self.folder / f"{stage}-{digest[:16]}", digest


def digest_of(stage: str, inputs: Mapping[str, Any]) -> str:
    """Hex sha256 of a stage's name and of what it depends on, in JSON's own kinds."""
    return hashlib.sha256(json.dumps([stage, dict(inputs)], sort_keys=True).encode()).hexdigest()


def _read(path: Path, digest: str) -> Kept:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT or header.get("digest") != digest:
                raise SteeringError(
                    f"{path} was not written by this stage; remove the file and build again"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Kept(tensors, json.loads(header["facts"]), digest)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise SteeringError(f"cannot read {path}: {error}; remove it and build again") from error
