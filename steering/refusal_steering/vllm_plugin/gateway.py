"""The gateway: the one choke point around an engine's ``generate`` in the API process.

It strips whatever clients put under our key, stamps the directive of the current context on the
request, takes the readings off the outputs, and lets no token of a steered request pass without
the proof that the device has steered it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from uuid import uuid4

from refusal_steering.bundle import SteeringBundle
from refusal_steering.directive import EPOCH_KEY, EXTRA_KEY, Directive
from refusal_steering.errors import (
    DirectiveError,
    SteeringError,
    SteeringUnavailableError,
    UndecidedRiskError,
)
from refusal_steering.gate.prompt_tokens import PromptTokens
from refusal_steering.trace import Reading, Trace
from refusal_steering.vllm_plugin import results
from refusal_steering.vllm_plugin.media_tokens import PromptReadings
from refusal_steering.vllm_plugin.protocols import (
    EngineClient,
    EngineCoreOutput,
    RequestOutput,
    SamplingParams,
)
from refusal_steering.vllm_plugin.ranks import ask_ranks
from refusal_steering.vllm_plugin.reading_epoch import ReadingEpoch

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class SteeringContext:
    """One API request: its directive, and the traces of its choices once tokens arrive.

    ``undecided`` is set where the device has left the share of a choice open.
    """

    directive: Directive | None
    traces: list[Trace] = field(default_factory=list)
    error: SteeringError | None = None
    undecided: asyncio.Event = field(default_factory=asyncio.Event)
    _tokens: list[int] = field(default_factory=list)

    def expect(self, choices: int, prompt: PromptTokens | None = None) -> None:
        """Start one trace for each of ``choices`` sequences, which continue ``prompt``."""
        if self.directive is not None:
            self.traces = [Trace(self.directive, prompt=prompt) for _ in range(choices)]
            self._tokens = [0] * choices

    def observe(self, choice: int, reading: Reading | None, new_tokens: int) -> None:
        """Take up one engine output; a missing proof is kept as :attr:`error`."""
        trace = self.traces[choice]
        if reading is not None:
            trace.add(reading)
        self._tokens[choice] += new_tokens
        try:
            if self._tokens[choice] or trace.failure:
                trace.prove(self._tokens[choice])
        except UndecidedRiskError as error:
            self.error = error
            self.undecided.set()
        except SteeringUnavailableError as error:
            self.error = error


_current: ContextVar[SteeringContext | None] = ContextVar("steering_context", default=None)


def current_context() -> SteeringContext | None:
    """The context of the block that this code runs in; None outside of one."""
    return _current.get()


@contextmanager
def steering_context(directive: Directive | None) -> Iterator[SteeringContext]:
    """Steer every generation that is started inside the block; ``None`` steers nothing."""
    context = SteeringContext(directive)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


class SteeringGateway:
    """Guards one ``AsyncLLM``; make it once, before the first request.

    ``operator`` is the form of the operator on all ranks, once they have acknowledged a policy.
    """

    def __init__(self, engine_client: EngineClient) -> None:
        self._engine = engine_client
        self._generate = engine_client.generate
        self._live: dict[str, SteeringContext | None] = {}
        self._epoch = ReadingEpoch()
        self.operator: str | None = None
        self._prompts = PromptReadings()
        self._processor = engine_client.output_processor
        self._process_outputs = self._processor.process_outputs
        self._processor.process_outputs = self._tapped_process_outputs
        engine_client.generate = self.generate

    def generate(
        self, prompt: object, sampling_params: SamplingParams, request_id: str, **kwargs: object
    ) -> AsyncGenerator[RequestOutput, None]:
        """Stands in for ``AsyncLLM.generate``; the context is captured now, not when iterated."""
        context = current_context()
        if context is not None and context.directive is None:
            context = None
        # Unsteered requests too: a medium's layout is there only when it is sent first.
        tokens = self._prompts.tokens(prompt)
        params = _stamped(prompt, sampling_params, context, self._epoch.number)
        if context is not None:
            context.expect(params.n, tokens)
        return self._guarded(context, prompt, params, request_id, kwargs)

    async def _guarded(
        self,
        context: SteeringContext | None,
        prompt: object,
        params: SamplingParams,
        request_id: str,
        kwargs: dict[str, object],
    ) -> AsyncGenerator[RequestOutput, None]:
        # Clients may choose request ids; two live requests must never share one here.
        own_id = request_id if request_id not in self._live else f"{request_id}-{uuid4().hex[:8]}"
        self._live[own_id] = context
        stream = self._generate(prompt, params, own_id, **kwargs)
        watched = _watched(stream, context)
        ended = measured = False
        try:
            async for output in watched:
                if context is not None:
                    if context.error is not None:
                        raise context.error
                    measured = measured or any(trace.readings for trace in context.traces)
                    if not measured:
                        raise SteeringUnavailableError("an output came that no reading belongs to")
                yield output
            ended = True
        finally:
            self._live.pop(own_id, None)
            await watched.aclose()
            await stream.aclose()
            if not ended:
                await self._forget(own_id)

    async def _forget(self, request_id: str) -> None:
        """Give back the admission slots of a request that did not come to its end.

        vLLM counts a request as soon as it is registered; one that fails on its way to the
        engine's process would be counted for ever. A request that it has forgotten is no matter.
        """
        try:
            await asyncio.shield(self._engine.abort(request_id))
        except Exception:
            logger.exception("a request that failed could not be forgotten")

    def _tapped_process_outputs(
        self, outputs: list[EngineCoreOutput], *args: object, **kwargs: object
    ) -> object:
        # Read here, not in generate(): a request that is not streamed never sees its
        # intermediate outputs there.
        for output in outputs:
            self._observe(output)
        return self._process_outputs(outputs, *args, **kwargs)

    def _observe(self, output: EngineCoreOutput) -> None:
        wire = results.take(output)
        state = self._processor.request_states.get(output.request_id)
        if state is None:
            return
        context = self._live.get(state.external_req_id)
        if context is None:
            return
        try:
            reading = None if wire is None else Reading.from_wire(wire)
            context.observe(state.request_index, reading, len(output.new_token_ids))
        except Exception as error:
            # This loop serves every request of the engine: only this one may end.
            logger.exception("a steering reading could not be used")
            context.error = SteeringUnavailableError(f"the proof of steering is damaged: {error}")

    @property
    def epoch(self) -> int | None:
        """The reading epoch of requests that start now."""
        return self._epoch.number

    def enter_epoch(self, number: int | None) -> None:
        """Stamp requests with the epoch of another process, which loads the bundles."""
        self._epoch.number = number

    async def load(self, bundle: SteeringBundle) -> None:
        """Load a bundle on every rank; raises :class:`BundleError` if one of them cannot."""
        answers = await ask_ranks(self._engine, "refusal_steering_load", bundle.packed)
        self._epoch.loaded(bundle, answers)
        _require(all(bundle.digest in answer["bundles"] for answer in answers), "load the bundle")

    async def retire(self, keep: Collection[str]) -> None:
        """Free the bundle slots of bundles that are not in ``keep`` and that no request uses."""
        self._epoch.retired(await ask_ranks(self._engine, "refusal_steering_retire", sorted(keep)))

    async def acknowledge(self, policy_version: str, bundles: Collection[str]) -> None:
        """Have every rank confirm that it holds ``bundles`` and record the policy version."""
        answers = await ask_ranks(
            self._engine, "refusal_steering_acknowledge", policy_version, sorted(bundles)
        )
        _require(
            all(answer["policy_version"] == policy_version for answer in answers),
            "acknowledge the policy",
        )
        # Forms round differently: ranks that hold the same stream must add the same to it.
        forms = {answer.get("operator") for answer in answers}
        found = ", ".join(sorted(map(str, forms)))
        _require(len(forms) == 1, f"use the same form of the operator (found: {found})")
        self.operator = forms.pop()


def _watched(
    stream: AsyncGenerator[RequestOutput, None], context: SteeringContext | None
) -> AsyncGenerator[RequestOutput, None]:
    directive = None if context is None else context.directive
    if context is None or directive is None or directive.grey_zone is None:
        return stream
    return _until_undecided(stream, context)


async def _until_undecided(
    stream: AsyncGenerator[RequestOutput, None], context: SteeringContext
) -> AsyncGenerator[RequestOutput, None]:
    """The outputs of ``stream``; raises at once where the device leaves the share open.

    An answer that is not streamed gives one output at its very end.
    """
    first = asyncio.ensure_future(anext(stream, None))
    open_share = asyncio.ensure_future(context.undecided.wait())
    try:
        await asyncio.wait((first, open_share), return_when=asyncio.FIRST_COMPLETED)
        if context.error is not None:
            raise context.error
        output = await first
    finally:
        for waiting in (first, open_share):
            waiting.cancel()
        await asyncio.gather(first, open_share, return_exceptions=True)
    while output is not None:
        yield output
        output = await anext(stream, None)


def _stamped(
    prompt: object, params: SamplingParams, context: SteeringContext | None, epoch: int | None
) -> SamplingParams:
    if hasattr(prompt, "sampling_params"):
        raise DirectiveError("a prepared engine request cannot pass the steering gateway")
    given = (params.extra_args or {}).items()
    extra = {k: v for k, v in given if k not in (EXTRA_KEY, EPOCH_KEY)}
    if epoch is not None:
        extra[EPOCH_KEY] = epoch
    if context is not None and context.directive is not None:
        if hasattr(prompt, "__aiter__"):
            raise DirectiveError("a streamed prompt cannot be steered: its end is not known")
        extra[EXTRA_KEY] = context.directive.to_wire()
    if extra != (params.extra_args or {}):
        # As vLLM's clone copies what it has made for a request; it clones again before it runs.
        params = copy(params)
        params.extra_args = extra or None
    return params


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise SteeringError(f"not every rank could {what}; nothing was changed for requests")
