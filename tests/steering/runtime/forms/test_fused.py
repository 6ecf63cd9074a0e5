"""The operators in Triton keep every law of the operators, in Triton's interpreter.

The interpreter must be chosen before Triton is imported, so a process of its own plays the laws.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from refusal_steering.runtime import bank, buffers, plan
from refusal_steering.runtime.gate import bank as gate_bank
from refusal_steering.terms import MEDIA, MOST_COUNTED
from tests.measured import measured
from tests.needs import ROOT

HERE = Path(__file__).parent
# Tracing looks at no form; traffic is long, and is played where the form is fast.
OTHERS = "not compiled and not library_checks and not traffic"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "laws",
    [
        [HERE / "fused_laws.py"],
        [HERE.parent / "test_operator.py", HERE.parent / "test_worked_example.py"],
        [HERE.parent / "gate/test_reader.py", HERE.parent / "gate/test_gate_operator.py"],
    ],
    ids=["its own", "of steering", "of gates"],
)
def test_the_laws_hold_in_the_interpreter(laws: list[Path]) -> None:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", OTHERS]
    played = subprocess.run(
        [*command, *map(str, laws)],
        env=measured(TRITON_INTERPRET="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stdout[-6000:] + played.stderr[-2000:]


def test_the_kernels_constants_are_the_tables() -> None:
    from refusal_steering.runtime.forms import kernels
    from refusal_steering.runtime.gate import kernels as gate_kernels

    names = ("AT", "REQUEST_SLOT", "OWNER", "BUNDLE_SLOT", "VARIANT", "COMPUTES")
    for name in (*names, "STRENGTH", "MAX_DOSE", "COLUMNS"):
        assert getattr(kernels, name).value == getattr(buffers, name)
    for name in ("MEDIA_MIXES", "BALL_ROWS", "ROWS", "SCALARS"):
        assert getattr(kernels, name).value == getattr(bank, name)
    columns = (bank.OUTPUT_BIAS, bank.FLOOR, bank.CEILING, bank.USED_UNITS)
    assert columns == (0, 1, 2, 3)
    assert (bank.COEFFICIENT, bank.RISK, bank.ROWS, bank.DOSE) == (0, 1, 2, 3)
    assert kernels.MEDIA.value == len(MEDIA)
    assert (kernels.MOST_COUNTED.value, kernels.COUNTS.value) == (MOST_COUNTED, MOST_COUNTED + 1)
    assert kernels.OPENING.value == gate_bank.OPENING
    assert gate_kernels.READ.value == gate_bank.READ
    assert gate_kernels.HEAD.value == gate_bank.LAYERS
    assert gate_kernels.TRASH_SLOT.value == plan.TRASH_SLOT
