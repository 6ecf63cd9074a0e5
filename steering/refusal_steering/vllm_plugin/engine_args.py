"""Engine arguments: how a vLLM is told, before it starts, that it will be steered."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refusal_steering.bundle import SteeringBundle
from refusal_steering.directive import EXTRA_KEY
from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.vllm_plugin.processes import start_afresh
from refusal_steering.vllm_plugin.repeats import tell_once
from refusal_steering.vllm_plugin.seams import check_engine

# Part of the options on purpose: vLLM hashes them into its compile cache, so an artifact traced
# by another form of the operator, or without it, is never loaded.
_FORM = 6
_LISTS = ("layers", "gate_layers", "gate_ends")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the worker must know before the model is compiled; fixed until a restart.

    ``layers`` to put the operator behind; ``bundle_slots`` for bundles; ``units`` is the widest
    adapter that fits; ``graph_rows`` overrides the size up to which graphs are assumed.
    ``gate_layers`` are read for up to ``gates`` gates, whose scores are complete behind one of
    ``gate_ends``; without any of them prompts are not read. ``balls`` makes room for trust regions
    that are balls.
    """

    layers: tuple[int, ...] = ()
    bundle_slots: int = 8
    units: int = 64
    graph_rows: int | None = None
    gate_layers: tuple[int, ...] = ()
    gate_ends: tuple[int, ...] = ()
    gates: int = 0
    balls: bool = False
    form: int = _FORM

    @classmethod
    def for_bundles(
        cls, bundles: Iterable[SteeringBundle], extra_layers: Iterable[int] = ()
    ) -> EngineOptions:
        """Room for ``bundles``, and as many again for hot loading."""
        known = list(bundles)
        layers = {index for bundle in known for index in bundle.layers} | set(extra_layers)
        widest = max((bundle.hidden_units for bundle in known), default=0)
        gates = {bundle.gate.digest: bundle.gate for bundle in known if bundle.gate is not None}
        return cls(
            layers=tuple(sorted(layers)),
            bundle_slots=max(8, 2 * len(known)),
            units=max(64, widest),
            gate_layers=tuple(sorted({at for gate in gates.values() for at in gate.layers})),
            gate_ends=tuple(sorted({gate.layers[-1] for gate in gates.values()})),
            gates=2 * len(gates),
            balls=any(layer.ball for bundle in known for layer in bundle.layers.values()),
        )

    @classmethod
    def read(cls, additional_config: object) -> EngineOptions:
        """From vLLM's ``additional_config``; no options mean an engine that is not steered."""
        found = additional_config.get(EXTRA_KEY) if isinstance(additional_config, Mapping) else None
        if not found:
            return cls()
        lists = {name: tuple(found.get(name, ())) for name in _LISTS}
        return cls(**{**found, **lists})

    def to_engine(self) -> dict[str, Any]:
        """The two engine arguments of ``vllm.LLM`` and ``AsyncEngineArgs``."""
        return {"worker_cls": worker_class(), "additional_config": {EXTRA_KEY: self.to_json()}}

    def to_json(self) -> dict[str, Any]:
        """The form that vLLM hashes and hands to the workers."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in _LISTS}}


def worker_class() -> str:
    """The steered worker's qualified name for the current platform.

    What starts an engine asks for it: from here on vLLM tells repeated warnings once, and on CUDA
    it spawns the engine's processes, unless asked otherwise.
    """
    from vllm.platforms import current_platform

    tell_once()
    if current_platform.is_cpu():
        return "refusal_steering.vllm_plugin.cpu_worker.CPUSteeringWorker"
    if current_platform.is_cuda():
        start_afresh()
        return "refusal_steering.vllm_plugin.worker.GPUSteeringWorker"
    raise UnsupportedEngineError(
        f"steering runs on CPU and CUDA, this vLLM runs on {current_platform.device_name}"
    )


def apply_steering_args(args: Namespace, bundles: Sequence[SteeringBundle]) -> None:
    """Make parsed vLLM arguments start a steered engine.

    Raises :class:`UnsupportedEngineError` for an unfit vLLM and for flags of ours that the user
    has set to something else.
    """
    check_engine()
    if getattr(args, "worker_cls", "auto") != "auto":
        raise UnsupportedEngineError(
            f"--worker-cls {args.worker_cls} cannot be combined with steering; remove it"
        )
    _refuse_flags(args)
    _refuse_outer_balancing(args)
    given = args.additional_config or {}
    if isinstance(given, str):
        given = json.loads(given)
    options = EngineOptions.for_bundles(bundles)
    args.worker_cls = worker_class()
    args.additional_config = {**given, EXTRA_KEY: options.to_json()}


def _refuse_flags(args: Namespace) -> None:
    # The worker checks the finished configuration; these are caught here for a short message.
    parallel = "use --tensor-parallel-size instead"
    refused = {
        "--speculative-config": "remove it",
        "--pipeline-parallel-size": parallel,
        "--decode-context-parallel-size": parallel,
        "--prefill-context-parallel-size": parallel,
        "--enable-expert-parallel": parallel,
        "--enable-lora": "merge the adapter into the model and build a bundle for that",
        "--enable-dbo": "remove it",
        "--kv-transfer-config": "remove it",
        "--enable-prompt-embeds": "remove it",
    }
    for flag, remedy in refused.items():
        given = _value(args, flag)
        # A number counts ranks: one is none.
        if given is True or (given and given != 1):
            raise UnsupportedEngineError(f"steering does not support {flag}: {remedy}")


def _refuse_outer_balancing(args: Namespace) -> None:
    # Engines that another process starts or balances: nobody here could ask all of their ranks.
    flags = (
        "--data-parallel-external-lb",
        "--data-parallel-hybrid-lb",
        "--data-parallel-multi-port-external-lb",
        "--data-parallel-rank",
        "--data-parallel-start-rank",
        "--data-parallel-size-local",
        "--data-parallel-address",
        "--enable-elastic-ep",
    )
    # Rank 0 is a wish too.
    given = {flag: _value(args, flag) for flag in flags}
    wished = [flag for flag, value in given.items() if value is not None and value is not False]
    if _value(args, "--data-parallel-backend") not in (None, "mp"):
        wished.append(f"--data-parallel-backend {_value(args, '--data-parallel-backend')}")
    if (_value(args, "--nnodes") or 1) > 1 and (_value(args, "--data-parallel-size") or 1) > 1:
        wished.append("--nnodes with --data-parallel-size")
    if wished:
        raise UnsupportedEngineError(
            f"steering does not support {wished[0]}: use --data-parallel-size alone, which starts "
            "all engines here and balances between them, or start replicas behind a router"
        )


def _value(args: Namespace, flag: str) -> Any:
    return getattr(args, flag.removeprefix("--").replace("-", "_"), None)
