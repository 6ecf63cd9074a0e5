"""The seams: every place where this package touches vLLM, checked against its source at start.

The check reads source files and imports nothing, so it also judges a vLLM that is only unpacked.
A failed check names the seam that moved.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from refusal_steering.errors import UnsupportedEngineError

VALIDATED = ("0.26", "0.30", "0.31", "0.32")
OVERRIDE = "REFUSAL_STEERING_ANY_VLLM"


@dataclass(frozen=True, slots=True)
class Seam:
    """A function, by file and dotted name, and the leading parameters we rely on.

    ``mentions`` are names that its body must use.
    """

    file: str
    name: str
    parameters: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()


SEAMS = (
    Seam("v1/worker/gpu_worker.py", "Worker.load_model", ("self",)),
    Seam("v1/worker/gpu_worker.py", "Worker.execute_model", ("self", "scheduler_output")),
    Seam("v1/worker/gpu_worker.py", "Worker.sample_tokens", ("self", "grammar_output")),
    Seam(
        "v1/worker/gpu_worker.py",
        "Worker.initialize_from_config",
        ("self", "kv_cache_config"),
        ("num_blocks",),
    ),
    Seam(
        "v1/core/sched/output.py",
        "NewRequestData.from_request",
        ("cls", "request", "block_ids"),
        ("num_computed_tokens",),
    ),
    Seam(
        "v1/core/sched/output.py",
        "CachedRequestData.anon_repr",
        ("self",),
        ("resumed_req_ids", "new_block_ids", "num_computed_tokens"),
    ),
    Seam(
        "v1/worker/gpu_model_runner.py",
        "GPUModelRunner._prepare_inputs",
        ("self", "scheduler_output", "num_scheduled_tokens"),
        ("num_computed_tokens_cpu",),
    ),
    Seam(
        "v1/worker/gpu_model_runner.py",
        "GPUModelRunner.execute_model",
        ("self", "scheduler_output"),
        ("_prepare_inputs", "_update_states", "compute_logits"),
    ),
    Seam("v1/worker/gpu_model_runner.py", "GPUModelRunner._dummy_run", ("self", "num_tokens")),
    Seam(
        "v1/worker/gpu/model_runner.py",
        "GPUModelRunner.prepare_inputs",
        ("self", "scheduler_output"),
    ),
    Seam(
        "v1/worker/gpu/model_runner.py",
        "GPUModelRunner.execute_model",
        ("self", "scheduler_output"),
        ("prepare_inputs",),
    ),
    Seam(
        "v1/worker/gpu/model_runner.py",
        "GPUModelRunner.sample",
        ("self", "hidden_states", "input_batch"),
        ("compute_logits", "logits_indices"),
    ),
    Seam("v1/worker/gpu/model_runner.py", "GPUModelRunner._dummy_run", ("self", "num_tokens")),
    Seam(
        "v1/core/sched/scheduler.py",
        "Scheduler.update_from_output",
        ("self", "scheduler_output", "model_runner_output"),
    ),
    Seam(
        "v1/core/kv_cache_utils.py",
        "generate_block_hash_extra_keys",
        ("request", "start_token_idx", "end_token_idx"),
    ),
    Seam(
        "v1/core/kv_cache_utils.py",
        "get_request_block_hasher",
        (),
        ("generate_block_hash_extra_keys",),
    ),
    Seam(
        "v1/engine/async_llm.py",
        "AsyncLLM.generate",
        ("self", "prompt", "sampling_params", "request_id"),
    ),
    Seam("v1/engine/async_llm.py", "AsyncLLM.collective_rpc", ("self", "method")),
    Seam(
        "v1/engine/output_processor.py",
        "OutputProcessor.process_outputs",
        ("self", "engine_core_outputs"),
        ("request_states", "kv_transfer_params"),
    ),
)


@lru_cache(maxsize=1)
def check_engine() -> str:
    """The installed vLLM's version; raises :class:`UnsupportedEngineError` if it cannot be used."""
    version = installed_version()
    moved = moved_seams(installed_root())
    if moved:
        raise UnsupportedEngineError(
            f"vLLM {version} does not fit: {'; '.join(moved)}. Supported are "
            f"{', '.join(VALIDATED)}."
        )
    minor = ".".join(version.split(".")[:2])
    if minor not in VALIDATED and not os.environ.get(OVERRIDE):
        raise UnsupportedEngineError(
            f"vLLM {version} was never tested with this package (tested: {', '.join(VALIDATED)}). "
            f"Its seams look right; set {OVERRIDE}=1 to try it."
        )
    return version


def installed_root() -> Path:
    """The folder of the installed vLLM package, without importing it."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedEngineError("vLLM is not installed; install the extra 'cpu' or 'gpu'")
    return Path(next(iter(spec.submodule_search_locations)))


def installed_version() -> str:
    """The version that vLLM itself states."""
    for line in (installed_root() / "_version.py").read_text(encoding="utf-8").splitlines():
        if line.startswith(("__version__ = version = ", "__version__ = ")):
            return line.rsplit("=", 1)[1].strip().strip("'\"")
    raise UnsupportedEngineError("the installed vLLM does not state its version")


def moved_seams(root: Path) -> list[str]:
    """What differs between :data:`SEAMS` and the vLLM source tree at ``root``, in words."""
    return [complaint for seam in SEAMS if (complaint := _judge(seam, root))]


def _judge(seam: Seam, root: Path) -> str | None:
    where = f"{seam.name} in {seam.file}"
    try:
        tree = _parse(root / seam.file)
    except OSError:
        return f"{where} is gone (no such file)"
    function = next(_functions(tree, seam.name), None)
    if function is None:
        return f"{where} is gone"
    arguments = function.args.posonlyargs + function.args.args
    found = tuple(argument.arg for argument in arguments)
    if found[: len(seam.parameters)] != seam.parameters:
        return f"{where} now takes {found}, expected to start with {seam.parameters}"
    used = _names(function)
    missing = [name for name in seam.mentions if name not in used]
    return f"{where} no longer uses {', '.join(missing)}" if missing else None


@lru_cache(maxsize=64)
def _parse(path: Path) -> ast.Module:
    # CPython 3.11's parser fails if a collection in its midst runs code that parses, as the
    # printing of a traceback does (a task's exception that nobody took, for one).
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if collects:
            gc.enable()


def _functions(tree: ast.Module, dotted: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    *owners, name = dotted.split(".")
    body: list[ast.stmt] = tree.body
    for owner in owners:
        classes = (node for node in body if isinstance(node, ast.ClassDef) and node.name == owner)
        body = next((node.body for node in classes), [])
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            yield node


def _names(function: ast.AST) -> set[str]:
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
