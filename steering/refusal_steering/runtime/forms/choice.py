"""Which form of the operator an engine uses: tried on its device before anything is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from refusal_steering.errors import UnsupportedEngineError

AUTO, TORCH, TRITON = "auto", "torch", "triton"
WISHES = (AUTO, TORCH, TRITON)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of the operator, and why it is that one."""

    name: str
    reason: str

    @property
    def fused(self) -> bool:
        """Whether it is Triton's."""
        return self.name == TRITON


PLAIN = Form(TORCH, "nothing else was asked for")


def choose(wish: str, device: torch.device, trial: Callable[[], str | None]) -> Form:
    """The form for ``device``; ``trial`` says what is wrong with Triton's there, if anything is.

    Raises :class:`UnsupportedEngineError` where Triton's is asked for by name and is not right.
    """
    if wish not in WISHES:
        raise UnsupportedEngineError(
            f"the operator's form is {wish!r}; expected one of {', '.join(WISHES)}"
        )
    if wish == TORCH:
        return Form(TORCH, "asked for")
    if wish == AUTO and device.type != "cuda":
        return Form(TORCH, f"the device is {device.type}")
    try:
        problem = trial()
    # Whatever a compiler says: an engine must not start with a form that was not seen to work.
    except Exception as error:
        problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if problem is None:
        return Form(TRITON, "it was tried on this device and equals the form in torch")
    if wish == TRITON:
        raise UnsupportedEngineError(
            f"the operator in Triton does not work on this device ({problem}); start with the form "
            f"{TORCH!r} or {AUTO!r}"
        )
    return Form(TORCH, f"the one in Triton does not work on this device: {problem}")
