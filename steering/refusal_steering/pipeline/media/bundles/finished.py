"""Bundles that a build has finished: each is made once, and known as the build's until it ends.

A bundle is kept in the work folder with its canary, so that a build that is ended goes on behind
it. Which folders it has written to is noted, so that it may write there again without being told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from refusal_steering import __version__
from refusal_steering.atomic_file import write_atomically
from refusal_steering.bundle import SteeringBundle, put_bundle, unpack
from refusal_steering.pipeline.media.work import FOLDER, Kept, Work

_NOTE = "unfinished.json"


@dataclass(frozen=True, slots=True)
class Finished:
    """A bundle with its canary, and what a user must know of it."""

    bundle: SteeringBundle
    notes: Sequence[str] = ()


def finished(
    work: Work, strategy: str, inputs: Mapping[str, Any], make: Callable[[], Finished]
) -> Finished:
    """What ``make`` gives, or what it gave before for the same ``inputs`` and version."""

    def made() -> Kept:
        one = make()
        packed = torch.frombuffer(bytearray(one.bundle.packed), dtype=torch.uint8)
        return Kept({"bundle": packed}, {"notes": list(one.notes)})

    found = work.kept(f"bundle-{strategy}", {**inputs, "version": __version__}, made)
    return Finished(unpack(found.tensors["bundle"].numpy().tobytes()), found.facts["notes"])


def save_unfinished(out: Path, strategy: str, bundle: SteeringBundle) -> None:
    """Put ``bundle`` into its folder below ``out``, which is the build's own from then on."""
    names = sorted({*unfinished(out), strategy})
    write_atomically(out / FOLDER / _NOTE, json.dumps(names).encode())
    put_bundle(out / strategy, bundle)


def unfinished(out: Path) -> frozenset[str]:
    """Strategies whose folders below ``out`` were written by a build that did not come to its end.

    A note that cannot be read names none.
    """
    try:
        return frozenset(map(str, json.loads((out / FOLDER / _NOTE).read_bytes())))
    except (OSError, ValueError, TypeError):
        return frozenset()


def end(out: Path) -> None:
    """The build has come to its end: what it wrote is replaced only where it is asked for."""
    (out / FOLDER / _NOTE).unlink(missing_ok=True)
