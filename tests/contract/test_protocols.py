"""The types that stand for vLLM's objects, held against the installed vLLM's source."""

from __future__ import annotations

import ast

import pytest

from refusal_steering.vllm_plugin import protocols
from refusal_steering.vllm_plugin.seams import installed_root

CLASSES: dict[type, tuple[str, str]] = {
    protocols.SamplingParams: ("sampling_params.py", "SamplingParams"),
    protocols.HashedRequest: ("v1/request.py", "Request"),
    protocols.NewRequest: ("v1/core/sched/output.py", "NewRequestData"),
    protocols.CachedRequests: ("v1/core/sched/output.py", "CachedRequestData"),
    protocols.KVCacheGroup: ("v1/kv_cache_interface.py", "KVCacheGroupSpec"),
    protocols.KVCacheConfig: ("v1/kv_cache_interface.py", "KVCacheConfig"),
    protocols.SchedulerOutput: ("v1/core/sched/output.py", "SchedulerOutput"),
    protocols.EngineCoreOutput: ("v1/engine/__init__.py", "EngineCoreOutput"),
    protocols.EngineCoreOutputs: ("v1/engine/__init__.py", "EngineCoreOutputs"),
    protocols.BatchV1: ("v1/worker/gpu_input_batch.py", "InputBatch"),
    protocols.BatchV2: ("v1/worker/gpu/input_batch.py", "InputBatch"),
    protocols.RunnerV1: ("v1/worker/gpu_model_runner.py", "GPUModelRunner"),
    protocols.RunnerV2: ("v1/worker/gpu/model_runner.py", "GPUModelRunner"),
    protocols.SchedulerConfig: ("config/scheduler.py", "SchedulerConfig"),
    protocols.ParallelConfig: ("config/parallel.py", "ParallelConfig"),
    protocols.CompilationConfig: ("config/compilation.py", "CompilationConfig"),
    protocols.ModelConfig: ("config/model.py", "ModelConfig"),
    protocols.VllmConfig: ("config/vllm.py", "VllmConfig"),
    protocols.Logprob: ("logprobs.py", "Logprob"),
    protocols.CompletionOutput: ("outputs.py", "CompletionOutput"),
    protocols.RequestOutput: ("outputs.py", "RequestOutput"),
    protocols.RequestState: ("v1/engine/output_processor.py", "RequestState"),
    protocols.OutputProcessor: ("v1/engine/output_processor.py", "OutputProcessor"),
    protocols.EngineClient: ("v1/engine/async_llm.py", "AsyncLLM"),
    protocols.OfflineCore: ("v1/engine/llm_engine.py", "LLMEngine"),
    protocols.OfflineEngine: ("entrypoints/llm.py", "LLM"),
    protocols.OfflineOutput: ("outputs.py", "RequestOutput"),
}


@pytest.mark.parametrize("protocol", CLASSES, ids=lambda protocol: protocol.__name__)
def test_vllms_class_has_what_the_protocol_names(protocol: type) -> None:
    file, name = CLASSES[protocol]
    missing = _named(protocol) - _members(file, name)
    assert not missing, f"{name} in {file} has no {sorted(missing)}"


@pytest.mark.parametrize("file", ["v1/worker/gpu_model_runner.py", "v1/worker/gpu/model_runner.py"])
def test_both_runners_have_what_they_share(file: str) -> None:
    assert _named(protocols.ModelRunner) <= _members(file, "GPUModelRunner")


def _named(protocol: type) -> set[str]:
    methods = {name for name, value in vars(protocol).items() if callable(value)}
    shown = {name for name in methods if not name.startswith("_")}
    return shown | set(protocol.__annotations__)


def _members(file: str, name: str) -> set[str]:
    """Fields, methods, properties and whatever methods assign to ``self``."""
    tree = ast.parse((installed_root() / file).read_text(encoding="utf-8"))
    owner = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == name)
    found = set()
    for node in ast.walk(owner):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found
