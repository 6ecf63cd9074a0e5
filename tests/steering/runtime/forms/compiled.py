"""Compiles the kernels for GPUs that are not here, and reads what the assembler says of them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from refusal_steering.runtime.forms import fused, kernels
from refusal_steering.runtime.gate import kernels as gate_kernels

ARCHITECTURES = (80, 90, 100, 120)
_TABLES = {"entries": "*i32", "loaded": "*i32", "counted": "*i1"}
_LONG_TABLES = ("cell_of", "position_of", "lanes")
_NUMBERS = ("size", "rows", "trash")


@dataclass(frozen=True)
class Kernel:
    """One kernel at the size that it is served in: a 7B model's, 64 units, two gates."""

    function: Any
    constants: dict[str, Any]
    warps: int

    @property
    def name(self) -> str:
        return str(self.function.__name__)

    def signature(self, dtype: str) -> dict[str, str]:
        return {name: self._type(name, dtype) for name in self.function.arg_names}

    def _type(self, name: str, dtype: str) -> str:
        if name in self.constants:
            return "constexpr"
        if name in _NUMBERS or name.endswith("_stride"):
            return "i32"
        if name in ("hidden", "residual"):
            return f"*{dtype}"
        return _TABLES.get(name) or ("*i64" if name in _LONG_TABLES else "*fp32")


def earning(units: int) -> Kernel:
    has = {"HAS_RESIDUAL": True, "HAS_GATE": True, "HAS_BALL": True}
    return Kernel(kernels.earn, {**fused.earn_shape(units), **has}, fused.EARN_WARPS)


KERNELS = (
    earning(64),
    earning(128),
    Kernel(kernels.push, {"BLOCK": fused.push_block(3584)}, fused.PUSH_WARPS),
    Kernel(
        gate_kernels.probe,
        {"PROBES": 6, "PROBE_BLOCK": 8, "BLOCK": 256, "HAS_RESIDUAL": True},
        8,
    ),
    Kernel(
        gate_kernels.conclude,
        {"GATES": 2, "LAYERS": 4, "LAYER_BLOCK": 4, "BLOCK": 64},
        4,
    ),
)


@dataclass(frozen=True)
class Usage:
    """What one thread needs: registers, and bytes of memory for what does not fit into them."""

    registers: int
    spilled: int


def usage(kernel: Kernel, dtype: str, architecture: int, folder: Path) -> Usage:
    """Compile ``kernel`` to machine code for ``architecture``."""
    source = ASTSource(
        fn=kernel.function, signature=kernel.signature(dtype), constexprs=kernel.constants
    )
    made = triton.compile(
        source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": kernel.warps}
    )
    code = folder / f"{kernel.name}.cubin"
    code.write_bytes(made.asm["cubin"])
    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    told = subprocess.run([tool, "-res-usage", code], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", told.stdout))
    return Usage(int(found["REG"]), int(found["STACK"]) + int(found["LOCAL"]))
