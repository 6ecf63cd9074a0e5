"""Rows of every token that a gate counts, read by the engine and streamed to disk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from refusal_steering.calibration.stored_rows.at_fault import name_the_one
from refusal_steering.calibration.token_rows.growing import GrowingRows, Wanted
from refusal_steering.calibration.token_rows.prompts import MARKED, turn_opening
from refusal_steering.calibration.token_rows.row_files import TokenIndex, TokenRows
from refusal_steering.engine import Messages, ServedModel
from refusal_steering.errors import EngineEndedError, SteeringError
from refusal_steering.pipeline.media.gate.examples import MediaExample, MediaExamples
from refusal_steering.pipeline.media.work import Kept, Work

# An index is written so often, and at the end: it grows with every prompt.
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StoredTokens:
    """Token rows of examples on disk, in their order; ``digest`` names all of them."""

    index: TokenIndex
    folder: Path
    digest: str

    @property
    def rows(self) -> TokenRows:
        """The rows, memory-mapped."""
        return self.index.rows(self.folder)


@dataclass(frozen=True, slots=True)
class Turns:
    """How the served template begins a user's turn, and whether it takes a system prompt."""

    user_turn: tuple[int, ...]
    systems: bool

    @classmethod
    def of(cls, model: ServedModel, work: Work) -> Turns:
        """As the engine renders them."""

        def ask() -> Kept:
            asked = [{"role": turn.role, "content": turn.content} for turn in MARKED]
            opening: tuple[int, ...] = ()
            if (ids := _rendered(model, asked)) is not None:
                opening = turn_opening(model.tokenizer.decode(ids), model.tokenizer)
            system = {"role": "system", "content": "Be brief."}
            takes = _rendered(model, [system, asked[0]]) is not None
            return Kept(facts={"user_turn": opening, "systems": takes})

        facts = work.kept("turns", {"model": model.facts.digest}, ask).facts
        return cls(tuple(facts["user_turn"]), facts["systems"])


def stored_tokens(
    model: ServedModel, examples: MediaExamples, layers: Sequence[int], work: Work
) -> StoredTokens:
    """Read ``examples`` with ``model`` behind ``layers``; what was read before is kept.

    Raises ``SteeringError`` that names the request where one cannot be read or gets lost.
    """
    turns = Turns.of(model, work)
    inputs = {
        "examples": examples.sha256,
        "model": model.facts.digest,
        "layers": list(layers),
    }
    folder, digest = work.place("tokens", inputs)
    wanted = Wanted(
        labels=examples.labels,
        user_turn=turns.user_turn,
        model=model.facts.identity,
        layers=tuple(layers),
        examples="text families and requests",
        examples_sha256=digest,
    )
    rows = GrowingRows(folder, wanted)
    try:
        _read(model, examples.all, turns, layers, rows)
    finally:
        index = rows.save()
    return StoredTokens(index, folder, digest)


def _read(
    model: ServedModel,
    examples: Sequence[MediaExample],
    turns: Turns,
    layers: Sequence[int],
    rows: GrowingRows,
) -> None:
    saved = time.monotonic()
    bar = tqdm(total=len(examples), initial=len(rows), desc="tokens", unit="prompt", disable=None)
    with bar:
        for start in range(len(rows), len(examples), model.batch):
            batch = examples[start : start + model.batch]
            _append(model, batch, turns, layers, rows)
            bar.update(len(batch))
            if time.monotonic() > saved + _SECONDS:
                rows.save()
                saved = time.monotonic()


def _append(
    model: ServedModel,
    batch: Sequence[MediaExample],
    turns: Turns,
    layers: Sequence[int],
    rows: GrowingRows,
) -> None:
    try:
        asked = [one.messages(systems=turns.systems) for one in batch]
        for prompt in model.prompt_rows(asked, layers):
            rows.append(prompt.ids, prompt.layers)
    except Exception as error:

        def alone(one: MediaExample) -> None:
            list(model.prompt_rows([one.messages(systems=turns.systems)], layers))

        name_the_one(batch, alone, error)


def _rendered(model: ServedModel, messages: Messages) -> tuple[int, ...] | None:
    try:
        return model.answers([messages], 1)[0].prompt
    except EngineEndedError:
        raise
    # The template does not take this.
    except SteeringError:
        return None
