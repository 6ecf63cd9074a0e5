"""Puts vLLM's Model Runner V2 on a machine without a GPU, for tests only.

V2 is what GPUs run by default, and it asks for Triton. Triton's interpreter runs its kernels on
the CPU; a stand-in backend makes vLLM believe that Triton has a driver. Async scheduling, which
the CPU platform turns off, is turned on again.
"""

import os

if os.environ.get("STEERING_RIG_V2") == "1":
    os.environ["TRITON_INTERPRET"] = "1"
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"

    import triton.backends

    class _Driver:
        @staticmethod
        def is_active() -> bool:
            return True

    class _Backend:
        driver = _Driver
        compiler = None

    triton.backends.backends["cpu"] = _Backend
