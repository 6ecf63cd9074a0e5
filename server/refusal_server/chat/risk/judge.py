"""A request's risk before its answer: RAS's risk pass, and the cascade that saves most of them.

RAS (arXiv 2510.13698) asks the served model itself: it rewords the request as a question about
its safety, and compares the first tokens the model would answer with those of its refusals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from refusal_server.chat.internal import (
    TOP_LOGPROBS,
    InternalChat,
    as_sent,
    reopened,
    together,
)
from refusal_server.chat.request import ChatCall
from refusal_server.chat.risk.assessment import ForwardRisk, RiskAssessment
from refusal_server.chat.risk.contexts import VisualContext, VisualContexts
from refusal_server.media.parts import media_parts
from refusal_server.telemetry.metrics import PassOutcome
from refusal_steering.bundle import RiskPass, SteeringBundle
from refusal_steering.errors import SteeringUnavailableError, UnsupportedEngineError
from refusal_steering.prompts.risk_question import quoted, reworded, takes_context
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.vllm_plugin.protocols import ModelConfig

_SEEN = ("image", "video")


class PassMetrics(Protocol):
    """Where operators see what risk passes cost."""

    def observe_risk_pass(
        self, labels: tuple[str, str, str], seconds: float, outcome: PassOutcome
    ) -> None:
        """A request's risk became known, or could not be known."""


def check_engine(model_config: ModelConfig, bundle: SteeringBundle) -> None:
    """Raise :class:`UnsupportedEngineError` if this engine cannot tell what a risk pass needs."""
    if not bundle.manifest.blends:
        return
    if 0 <= model_config.max_logprobs < TOP_LOGPROBS:
        raise UnsupportedEngineError(
            f"bundle {bundle.manifest.name!r} needs {TOP_LOGPROBS} log-probabilities per token; "
            f"raise --max-logprobs from {model_config.max_logprobs}"
        )
    if model_config.logprobs_mode != "raw_logprobs":
        raise UnsupportedEngineError(
            f"bundle {bundle.manifest.name!r} needs raw log-probabilities; drop --logprobs-mode "
            f"{model_config.logprobs_mode}"
        )


class RiskJudge:
    """Assesses requests under strategies that must know the risk before the answer."""

    def __init__(
        self, internal: InternalChat, contexts: VisualContexts, metrics: PassMetrics
    ) -> None:
        self._internal = internal
        self._contexts = contexts
        self._metrics = metrics

    async def assess(self, call: ChatCall, read: ForwardRisk | None = None) -> ChatCall:
        """``call`` with its risk known; unchanged if its strategy does not blend.

        ``read`` is the forward pass's risk where an answer has left the share open. Raises as
        :meth:`InternalChat.ask`: there is no answer to a request that was not assessed.
        """
        bundle = call.choice.policy.bundle
        if bundle is None or bundle.manifest.risk_pass is None or bundle.prototypes is None:
            return call
        started = time.perf_counter() - (read.seconds if read else 0.0)
        try:
            found, outcome = await self._judge(call, bundle.manifest.risk_pass, bundle, read)
        except Exception:
            seconds = time.perf_counter() - started
            self._metrics.observe_risk_pass(call.labels, seconds, "failed")
            raise
        found = replace(found, seconds=time.perf_counter() - started)
        self._metrics.observe_risk_pass(call.labels, found.seconds, outcome)
        return replace(call, choice=call.choice.assessed(found))

    async def _judge(
        self,
        call: ChatCall,
        risk_pass: RiskPass,
        bundle: SteeringBundle,
        read: ForwardRisk | None,
    ) -> tuple[RiskAssessment, PassOutcome]:
        assert bundle.prototypes is not None
        zone = bundle.manifest.grey_zone
        if zone is None:
            return await self._risk_pass(call, risk_pass, bundle.prototypes), "ran"
        forward = await self._forward_risk(call) if read is None else read.risk
        if read is None and not zone.low <= forward <= zone.high:
            return _outside(forward, risk_pass.cap, high=forward > zone.high)
        found = await self._risk_pass(call, risk_pass, bundle.prototypes)
        return replace(found, forward_risk=forward, passes=found.passes + 1), "ran"

    async def _forward_risk(self, call: ChatCall) -> float:
        """The probe's reading of the very prompt, whose prefix is then warm for the answer."""
        reply = await self._internal.ask(
            call.messages, as_sent(call.request), tokens=1, directive=call.choice.probe
        )
        risk = reply.traces[0].risk
        if not math.isfinite(risk):
            raise SteeringUnavailableError("the forward pass has no risk to tell")
        return risk

    async def _risk_pass(
        self, call: ChatCall, risk_pass: RiskPass, prototypes: RefusalPrototypes
    ) -> RiskAssessment:
        contexts = await self._describe(call, risk_pass)
        written = [context.text for context in contexts if quoted(context.text)]
        # What a picture dictates must not be able to lower the risk: it is asked without, too.
        variants: list[Sequence[str]] = [written, ()] if written else [()]
        similarities = await together(
            *(self._similarity(call, risk_pass, prototypes, variant) for variant in variants)
        )
        similarity = max(similarities)
        cached = sum(context.cached for context in contexts)
        return RiskAssessment(
            risk=risk_pass.risk(similarity),
            similarity=similarity,
            seconds=0.0,
            passes=len(contexts) - cached + len(variants),
            cached_contexts=cached,
        )

    async def _describe(self, call: ChatCall, risk_pass: RiskPass) -> list[VisualContext]:
        if not takes_context(risk_pass.risk_prompt):
            return []
        seen = [part for modality, part, _ in media_parts(call.messages) if modality in _SEEN]
        return await together(
            *(self._contexts.describe(call.request, part, risk_pass) for part in seen)
        )

    async def _similarity(
        self,
        call: ChatCall,
        risk_pass: RiskPass,
        prototypes: RefusalPrototypes,
        contexts: Sequence[str],
    ) -> float:
        tokens = risk_pass.compared(prototypes.count)
        reply = await self._internal.ask(
            reworded(call.messages, risk_pass.risk_prompt, contexts),
            reopened(call.request),
            tokens=tokens,
            logprobs=True,
        )
        if not reply.steps or not all(reply.steps):
            raise SteeringUnavailableError("a risk pass came back without log-probabilities")
        return prototypes.similarity(reply.steps[:tokens], risk_pass.discount)


def _outside(forward: float, cap: float, *, high: bool) -> tuple[RiskAssessment, PassOutcome]:
    found = RiskAssessment(
        cap if high else 0.0, None, 0.0, passes=1, cached_contexts=0, forward_risk=forward
    )
    return found, "skipped_high" if high else "skipped_low"
