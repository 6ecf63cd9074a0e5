"""Print the precision in which the demo model is served on this machine.

Run it with the environment's own Python:

    .venv/bin/python deploy/local/demo_dtype.py

``auto`` is the model's own, bfloat16. A CPU that is slow in it gets ``float32``.
"""

from __future__ import annotations

import sys

import torch

from refusal_steering.runtime.precision import slow_on_this_cpu


def dtype() -> str:
    """``auto`` or ``float32``."""
    slow = not torch.cuda.is_available() and slow_on_this_cpu(torch.bfloat16)
    return "float32" if slow else "auto"


if __name__ == "__main__":
    sys.stdout.write(f"{dtype()}\n")
