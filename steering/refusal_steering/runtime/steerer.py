"""Steering of one engine worker: bundle slots, request slots, and one plan a step.

Knows nothing of vLLM. Nothing here raises for what a request says: such a request gets a failed
reading, is not steered, and must not be answered; its neighbours go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, unpack
from refusal_steering.directive import Directive
from refusal_steering.errors import BundleError, BundleInUseError, SteeringError
from refusal_steering.runtime import operator
from refusal_steering.runtime.bank import LayerBank, state_table
from refusal_steering.runtime.blend import LogitsBlend, Project
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.forms.choice import PLAIN, Form
from refusal_steering.runtime.gate.bank import GateBank, GateSizes
from refusal_steering.runtime.gate.reader import PromptReader
from refusal_steering.runtime.layers import attach
from refusal_steering.runtime.plan import IDLE, Batch, Counts, PromptPart, StepPlan
from refusal_steering.runtime.readings import readings_of
from refusal_steering.runtime.requests import RequestSlots
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.runtime.transfer import put, to_host
from refusal_steering.trace import Reading

logger = logging.getLogger(__name__)

_NOBODY: Batch = ((), (), ())


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes that are fixed for the life of an engine.

    ``requests`` known at once, ``tokens`` rows of the largest step, ``graph_rows`` rows of the
    largest step that may be replayed from a captured graph (0: none is captured). Without ``gate``
    no prompts are read; without ``balls`` no coefficient is bounded by one.
    """

    bundle_slots: int
    units: int
    requests: int
    tokens: int
    graph_rows: int
    gate: GateSizes | None = None
    balls: bool = False


class ResidualSteering:
    """Steers decoder layers of one worker, and reads prompts for its gates.

    ``layers`` are those that are steered or read, by index; ``read_only`` are
    those that are not steered. ``reader`` is ``None`` in an engine that reads no prompts; ``form``
    is the operator's.
    """

    def __init__(
        self,
        layers: Mapping[int, DecoderLayer],
        *,
        hidden_size: int,
        num_layers: int,
        capacity: Capacity,
        device: torch.device,
        project: Project | None = None,
        read_only: Collection[int] = (),
        form: Form = PLAIN,
    ):
        self._sizes = (hidden_size, num_layers)
        self.form = form
        self._request_slots = RequestSlots(capacity.requests, capacity.tokens)
        self._bundle_slots: list[str | None] = [""] + [None] * capacity.bundle_slots
        # Of each bundle slot: which of the engine's layers its bundle steers.
        self._bundle_slot_layers: dict[int, tuple[int, ...]] = {}
        self._buffers = StepBuffers(capacity.graph_rows, device, fused=form.fused)
        steered = sorted(set(layers) - set(read_only))
        # The last place counts blended rows of logits.
        self._states = state_table(self._request_slots.state_rows, len(steered) + 1, device)
        self._banks = {
            index: LayerBank(
                len(self._bundle_slots),
                capacity.units,
                hidden_size,
                self._states,
                place,
                balls=capacity.balls,
            )
            for place, index in enumerate(steered)
        }
        self._blend = LogitsBlend(self._states, project)
        self._engine = operator.register_engine(self._buffers)
        self.reader = self._make_reader(capacity, hidden_size, device)
        attach(layers, self._banks, self._buffers, self._engine, self.reader)
        self._failed: dict[str, str] = {}
        self._plan: StepPlan = IDLE
        self._batch: Batch = _NOBODY
        self.policy_version = ""

    @property
    def layers(self) -> tuple[int, ...]:
        """Indices of the steered decoder layers, in order."""
        return tuple(self._banks)

    @property
    def bundles(self) -> tuple[str, ...]:
        """Digests of the loaded bundles."""
        return tuple(digest for digest in self._bundle_slots if digest)

    def load(self, packed: bytes) -> str:
        """Put a bundle into a free bundle slot; return its digest. A second load is harmless."""
        bundle = unpack(packed)
        if bundle.digest in self._bundle_slots:
            return bundle.digest
        self._check(bundle)
        if None not in self._bundle_slots:
            raise BundleInUseError(
                f"all {len(self._bundle_slots) - 1} bundle slots hold a bundle; retire one, or "
                "restart with more"
            )
        bundle_slot = self._bundle_slots.index(None)
        places = tuple(place for place, index in enumerate(self._banks) if index in bundle.layers)
        if bundle.prototypes is not None:
            self._blend.load(bundle_slot, bundle.prototypes, places)
        for index, bank in self._banks.items():
            layer = bundle.layers.get(index)
            if layer is None:
                bank.clear(bundle_slot)
            else:
                bank.load(bundle_slot, layer)
        if bundle.gate is not None and self.reader is not None:
            self.reader.bank.load(bundle_slot, bundle.gate)
            if bundle.gate.opens:
                self._buffers.gated.add(bundle_slot)
        self._bundle_slot_layers[bundle_slot] = places
        self._bundle_slots[bundle_slot] = bundle.digest
        return bundle.digest

    def retire(self, keep: Collection[str]) -> tuple[str, ...]:
        """Free all bundle slots but those of ``keep`` and of known requests."""
        busy, freed = self._request_slots.bundle_slots_in_use, []
        for bundle_slot, digest in enumerate(self._bundle_slots):
            if digest and digest not in keep and bundle_slot not in busy:
                for bank in self._banks.values():
                    bank.clear(bundle_slot)
                self._blend.clear(bundle_slot)
                self._buffers.gated.discard(bundle_slot)
                if self.reader is not None:
                    self.reader.bank.clear(bundle_slot)
                self._bundle_slots[bundle_slot] = None
                freed.append(digest)
        return tuple(freed)

    def admit(self, request_id: str, prompt: Sequence[int], wire: object) -> None:
        """Take up a request by the token ids of its prompt and its directive in wire form."""
        try:
            directive = Directive.from_wire(wire)  # type: ignore[arg-type]
            if not prompt:
                raise SteeringError("its prompt has no token ids")
            bundle_slot = self._bundle_slot_of(directive.bundle)
        except Exception as error:
            self._fail(request_id, str(error))
            return
        slot = self._request_slots.admit(request_id, len(prompt), directive, bundle_slot)
        if slot is None:
            self._fail(request_id, "every steering request slot of the engine is taken")
        elif self.reader is not None:
            self.reader.admit(request_id, directive, (slot, bundle_slot), prompt)

    def release(self, request_ids: Iterable[str]) -> None:
        """Forget finished and aborted requests."""
        ids = list(request_ids)
        self._request_slots.release(ids)
        if self.reader is not None:
            self.reader.release(ids)
        for request_id in ids:
            self._failed.pop(request_id, None)

    def rest(self) -> None:
        """Steer nothing until the next :meth:`begin`."""
        self._plan, self._batch = IDLE, _NOBODY
        self._buffers.clear()
        self._blend.rest()
        if self.reader is not None:
            self.reader.rest()

    def begin(self, request_ids: Sequence[str], computed: Counts, scheduled: Counts) -> None:
        """Prepare the next forward pass for its batch, in batch order."""
        self.rest()
        if self.reader is None and not self._request_slots:
            return
        self._batch = request_ids, computed, scheduled
        try:
            if self.reader is not None:
                self._begin_reading(self.reader)
            if self._request_slots:
                self._begin_steering(self._request_slots.plan(*self._batch))
        except Exception as error:
            logger.exception("a step could not be planned; its steered requests end with an error")
            self.rest()
            if self.reader is not None:
                self.reader.distrust()
            for request_id in request_ids:
                if request_id in self._request_slots:
                    self._fail(request_id, f"the step could not be planned: {error}")

    def _begin_reading(self, reader: PromptReader) -> None:
        for request_id, reason in reader.begin(*self._batch).items():
            self._fail(request_id, reason)

    def _begin_steering(self, plan: StepPlan) -> None:
        self._plan = plan
        parts = self._buffers.commit(plan, self._blend.parts(plan.blends))
        self._blend.commit(plan.blends, plan.requests, parts)

    def last_prompt_rows(self) -> list[tuple[str, int]]:
        """Policy version and place in the batch of every last prompt token of this step."""
        return self._request_slots.last_prompt_rows(self._plan)

    def prompt_parts(self) -> list[PromptPart]:
        """Which rows of this step are prompt tokens of known requests."""
        return self._request_slots.prompt_parts(self._batch)

    def blended_rows(self) -> list[tuple[str, int, int]]:
        """Policy version, answer token and place of every row of this step's logits that blends."""
        return self._request_slots.blended_rows(self._plan)

    def blend(self, logits: Tensor) -> None:
        """Blend the step's logits [requests, V] in place; call it with the first of every step."""
        rows = self._plan.blends
        try:
            problem = self._blend.apply(logits)
        except Exception as error:
            logger.exception("logits could not be blended; the step's blended requests end")
            problem = f"logits could not be blended: {error}"
        if problem is not None:
            reports = self._plan.reports
            for place in np.flatnonzero(np.isin(reports.owner, rows.owner)).tolist():
                self._fail(reports.request_ids[place], problem)

    def read(self) -> Callable[[], dict[str, list[Any]]] | None:
        """Start reading what the step has done; call the result to wait and get wire readings."""
        failed = {rid: Reading.failed(reason).to_wire() for rid, reason in self._failed.items()}
        reports, reported = self._plan.reports, self._buffers.reported
        if reported is None:
            return (lambda: failed) if failed else None
        wait = to_host(self._states.index_select(0, reported))
        layers = self._bundle_slot_layers.copy()
        gates = self.reader.read(to_host) if self.reader is not None else None
        return lambda: {
            **readings_of(reports, layers, wait(), gates() if gates is not None else {}),
            **failed,
        }

    def _make_reader(
        self, capacity: Capacity, hidden_size: int, device: torch.device
    ) -> PromptReader | None:
        if capacity.gate is None:
            return None
        rows = self._request_slots.state_rows
        bank = GateBank(capacity.gate, len(self._bundle_slots), hidden_size, rows, device)
        return PromptReader(bank, capacity.graph_rows, partial(put, device), fused=self.form.fused)

    def _check(self, bundle: SteeringBundle) -> None:
        bundle.check_model(*self._sizes)
        missing = sorted(set(bundle.layers) - set(self._banks))
        if missing:
            raise BundleError(
                f"bundle {bundle.manifest.name!r} steers layers {missing}, the engine was started "
                f"for layers {list(self._banks)}; restart it with this bundle in its policy"
            )
        if bundle.gate is not None:
            if self.reader is None:
                raise BundleError(
                    f"bundle {bundle.manifest.name!r} has a gate, the engine was started without "
                    "one; restart it with this bundle in its policy"
                )
            first = min(bundle.layers)
            self.reader.bank.check(bundle.manifest.name, bundle.gate, first)

    def _bundle_slot_of(self, digest: str) -> int:
        if not digest or digest not in self._bundle_slots:
            raise SteeringError(f"bundle {digest[:12]!r} is not loaded in this worker")
        return self._bundle_slots.index(digest)

    def _fail(self, request_id: str, reason: str) -> None:
        logger.error("request %s cannot be steered: %s", request_id, reason)
        self._failed[request_id] = reason
