"""Import what the server will need, and say plainly what is missing.

Usage: .venv/bin/python deploy/local/check.py cpu|gpu
"""

from __future__ import annotations

import importlib
import os
import sys

from console import Progress, say

NEEDED = {
    "torch": "tensors",
    "vllm": "the engine",
    "torchvision": "images and video",
    "torchaudio": "audio that is not sampled at 16 kHz",
    "cv2": "video",
    "av": "AAC, MP4 and WebM sound",
    "soundfile": "WAV, FLAC, MP3 and Ogg sound; without it vLLM decodes 16-bit WAV files wrongly",
    "refusal_server": "the server itself",
    "refusal_steering": "the steering method itself",
}
RETRY = "Run `make clean-all` and set up again; if it stays, report the lines above."


def main() -> int:
    """Check the environment for the engine named on the command line; return an exit status."""
    engine = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    # The engine logs its start-up thoughts otherwise.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    progress = Progress("check: importing what will be served")
    faults = build_faults(engine)
    faults = faults or [fault for name in NEEDED if (fault := import_fault(name))]
    faults = faults or platform_faults(engine)
    progress.finish("FAILED" if faults else "complete")
    for fault in faults:
        say(f"  {fault}")
    if faults:
        say(f"error: {len(faults)} of the things to be served are missing. {RETRY}")
    return 1 if faults else 0


def build_faults(engine: str) -> list[str]:
    """Why the torch that is here can never serve on a GPU, if so."""
    try:
        import torch
    except Exception:
        return []  # The imports tell.
    if engine != "gpu" or torch.version.cuda is not None:
        return []
    return [
        f"torch is {torch.__version__}, expected a build with CUDA. A source of pip's own has a "
        "CPU build, which wins: leave that out (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL, pip.conf)"
    ]


def import_fault(name: str) -> str | None:
    """Why a module cannot be imported and what will not work, or None."""
    try:
        importlib.import_module(name)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"{name} ({NEEDED[name]}): {type(error).__name__}: {reason}"
    return None


def platform_faults(engine: str) -> list[str]:
    """What is wrong with the engine's idea of the hardware, if anything."""
    import torch
    from vllm.platforms import current_platform

    expected = "cuda" if engine == "gpu" else "cpu"
    if current_platform.device_type == expected:
        return []
    return [
        f"vllm chose the platform {current_platform.device_type!r}, expected {expected!r}; torch "
        f"is {torch.__version__}, CUDA in reach: {torch.cuda.is_available()}"
    ]


if __name__ == "__main__":
    sys.exit(main())
