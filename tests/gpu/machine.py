"""The machine that a run was on, and what its engines need there."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import torch

CUDA, CPU = "cuda", "cpu"
_GROUP, _PLUGIN = "vllm.general_plugins", "refusal_steering"


class NoGpuError(RuntimeError):
    """This machine cannot run what was asked for."""


def require(device: str) -> None:
    """Raise :class:`NoGpuError` unless ``device`` is here."""
    if device == CUDA and not torch.cuda.is_available():
        raise NoGpuError(
            "no NVIDIA GPU is here (torch.cuda is not available). Run this on a machine with one, "
            "or rehearse it with --device cpu, which measures nothing"
        )


def describe(device: str) -> dict[str, Any]:
    """The machine in words; a rehearsal says that it is one."""
    gpu = torch.cuda.get_device_name() if device == CUDA else None
    return {
        "gpu": gpu,
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vllm": _vllm_version(),
        "transformers": version("transformers"),
        "rehearsal": device != CUDA,
    }


def _vllm_version() -> str:
    from refusal_steering.vllm_plugin.seams import installed_version

    return installed_version()


def register_plugin(folder: Path) -> None:
    """Let vLLM find the plugin on a machine where the package is unpacked, not installed."""
    if any(point.name == _PLUGIN for point in entry_points(group=_GROUP)):
        return
    info = folder / "plugin" / "refusal_steering-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: refusal-steering\nVersion: 0\n")
    target = f"{_PLUGIN} = refusal_steering.vllm_plugin:register"
    (info / "entry_points.txt").write_text(f"[{_GROUP}]\n{target}\n")
    rest = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(info.parent), *([rest] if rest else [])])
    sys.path.insert(0, str(info.parent))


@dataclass(frozen=True)
class Case:
    """One of vLLM's two runners in one data type on one device."""

    runner: int
    dtype: str
    device: str

    @property
    def name(self) -> str:
        """For reports and folders."""
        return f"V{self.runner + 1}-{self.dtype}"

    @property
    def environment(self) -> dict[str, str]:
        """What chooses the runner; on a CPU the second one needs the test rig."""
        if self.device == CUDA:
            return {
                "VLLM_USE_V2_MODEL_RUNNER": str(self.runner),
                "VLLM_USE_FLASHINFER_SAMPLER": "0",
                # Else Triton rounds float32 products to TF32, and nothing is exact;
                "TRITON_F32_DEFAULT": "ieee",
                # so do the convolutions of the towers.
                "NVIDIA_TF32_OVERRIDE": "0",
            }
        return {"STEERING_RIG_V2": "1", "STEERING_RIG_ASYNC": "1"} if self.runner else {}

    @property
    def engine(self) -> dict[str, Any]:
        """Engine arguments; no prefix cache, so that equal calls have equal shapes."""
        settings: dict[str, Any] = {
            "dtype": self.dtype,
            "max_model_len": 1024,
            "enable_prefix_caching": False,
        }
        if self.device == CUDA:
            settings |= {"gpu_memory_utilization": 0.1, "mm_encoder_attn_backend": "TORCH_SDPA"}
            if self.dtype == "float32":
                # FlashAttention has no float32.
                settings["attention_backend"] = "TRITON_ATTN"
        return settings

    @property
    def eager(self) -> dict[str, Any]:
        """The same without compilation and graphs."""
        return {**self.engine, "enforce_eager": True}

    @property
    def captured(self) -> tuple[dict[str, Any], int | None]:
        """The form under test and its graph rows.

        On a GPU compiled, with graphs captured at vLLM's sizes. A CPU has no graphs: there every
        step runs the operator's captured form, compiled on the first runner.
        """
        if self.device == CUDA:
            return self.engine, None
        return (self.eager if self.runner else self.engine), 8192
