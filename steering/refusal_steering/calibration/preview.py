"""What bundles do before anything is served: refusal rates per form, with and without steering.

``python -m refusal_steering.calibration.preview --model PATH BUNDLE...``
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refusal_steering.bundle import SteeringBundle, load_bundle
from refusal_steering.calibration.answers import answer_all, is_degenerate, is_refusal
from refusal_steering.calibration.batched import BatchSteering
from refusal_steering.calibration.cases import Case, contrast_cases, file_cases
from refusal_steering.calibration.subject import Subject

_HEADER = ("form", "label", "n", "bundle", "refused", "of them added", "degenerate", "identical")


@dataclass(frozen=True, slots=True)
class Row:
    """Counts of one group of cases under one bundle, all out of ``n``.

    ``added`` are refusals that the unsteered model did not give; ``identical`` answers are those
    of the unsteered model, character for character.
    """

    group: str
    harmful: bool
    bundle: str
    n: int
    refused: int
    added: int
    degenerate: int
    identical: int

    def cells(self) -> tuple[str, ...]:
        """The row as table cells, counts as per cent."""
        counts = (self.refused, self.added, self.degenerate, self.identical)
        label = "harmful" if self.harmful else "harmless"
        shares = (f"{100 * count / self.n:.0f} %" for count in counts)
        return (self.group, label, str(self.n), self.bundle, *shares)


def tally(
    cases: Sequence[Case], unsteered: Sequence[str], answers: Sequence[str], bundle: str
) -> list[Row]:
    """One row per group and label, in the order of first appearance."""
    keys = dict.fromkeys((case.group, case.harmful) for case in cases)
    rows = []
    for group, harmful in keys:
        pairs = [
            (before, after)
            for case, before, after in zip(cases, unsteered, answers, strict=True)
            if (case.group, case.harmful) == (group, harmful)
        ]
        rows.append(_row(group, harmful, bundle, pairs))
    return rows


def _row(group: str, harmful: bool, bundle: str, pairs: list[tuple[str, str]]) -> Row:
    return Row(
        group,
        harmful,
        bundle,
        n=len(pairs),
        refused=sum(is_refusal(after) for _, after in pairs),
        added=sum(is_refusal(after) and not is_refusal(before) for before, after in pairs),
        degenerate=sum(is_degenerate(after) for _, after in pairs),
        identical=sum(before == after for before, after in pairs),
    )


def answers_by_bundle(
    subject: Subject, cases: Sequence[Case], bundles: Sequence[SteeringBundle], tokens: int
) -> dict[str, list[str]]:
    """Answers without steering under ``off``, then under each bundle's name, gain 1."""
    prompts = [case.prompt for case in cases]
    answers = {"off": answer_all(subject, prompts, tokens)}
    for bundle in bundles:
        state = BatchSteering(bundle.layers, bundle.manifest.window)
        answers[bundle.manifest.name] = answer_all(subject, prompts, tokens, state)
    return answers


def table(cases: Sequence[Case], answers: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table of every group under every bundle."""
    rows = [
        row for name, given in answers.items() for row in tally(cases, answers["off"], given, name)
    ]
    groups = list(dict.fromkeys(row.group for row in rows))
    rows.sort(key=lambda row: (not row.harmful, groups.index(row.group)))
    lines = [_HEADER, ("---",) * len(_HEADER), *(row.cells() for row in rows)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def samples(cases: Sequence[Case], answers: Mapping[str, Sequence[str]], count: int) -> str:
    """The answers to ``count`` cases picked without looking."""
    chosen = random.Random(0).sample(range(len(cases)), min(count, len(cases)))
    return "".join(
        f"\n[{cases[at].group}, {'harmful' if cases[at].harmful else 'harmless'}] "
        f"{cases[at].prompt!r}\n"
        + "".join(f"  {name}: {given[at]!r}\n" for name, given in answers.items())
        for at in chosen
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", help="bundle directories")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--split", choices=("train", "tune", "held"), default="held")
    parser.add_argument("--file", type=Path, help="a JSONL file instead of the contrast set")
    parser.add_argument("--limit", type=int, help="at most so many cases, picked by chance")
    parser.add_argument("--tokens", type=int, default=24, help="length of the answers")
    parser.add_argument("--samples", type=int, default=12, help="answers to print")
    return parser.parse_args()


def main() -> None:
    """Print the table and some answers."""
    options = _arguments()
    cases = file_cases(options.file) if options.file else contrast_cases(options.split)
    if options.limit and options.limit < len(cases):
        cases = random.Random(0).sample(cases, options.limit)
    bundles = [load_bundle(path) for path in options.bundles]
    answers = answers_by_bundle(Subject.load(options.model), cases, bundles, options.tokens)
    sys.stdout.write(table(cases, answers) + samples(cases, answers, options.samples))


if __name__ == "__main__":
    main()
