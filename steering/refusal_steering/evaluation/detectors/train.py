"""Trains the head of the MiniLM detector and measures all detectors on labelled answers.

    python -m refusal_steering.evaluation.detectors.train FILE.csv FILE.csv ... --out head.json

Prints the tables of docs/detector.md. The head that is written is trained on all files. Its
confusion counts belong to the detectors as server and tools use them; those of MiniLM are counted
by leaving one model out: no head judges a model whose answers it has seen. Needs scikit-learn
(extra ``calibrate``) and the encoder (extra ``detect``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refusal_steering.atomic_file import write_atomically
from refusal_steering.detection.broken import is_broken
from refusal_steering.detection.confusion import Confusion
from refusal_steering.detection.cues import CUES, cues
from refusal_steering.detection.detector import HEAD, LEXICAL, MINILM, verdict_on
from refusal_steering.detection.encoder import Encoder, MiniLmEncoder
from refusal_steering.detection.head import Cells, Head
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.errors import SteeringError
from refusal_steering.evaluation.detectors import phrase_lists
from refusal_steering.evaluation.detectors.labelled import LabelledAnswers, Partial, read_all

CUE_SCALE = 0.5
_INVERSE_PENALTY = 10.0
_THRESHOLD = 0.5
_WITHOUT_TRAINING: dict[str, Callable[[str], bool]] = {
    "openers": phrase_lists.has_opener,
    "openers and morals": phrase_lists.has_moral,
    "phrases": phrase_lists.has_phrase,
    "union of lists": phrase_lists.in_any_list,
    LEXICAL: lambda text: verdict_on(text, LexicalDetector()) == "refusal",
}

Rows = NDArray[np.float64]
Scores = dict[str, dict[str, Confusion]]


@dataclass(frozen=True, slots=True)
class Trained:
    """A head and what every detector has scored: detector to model to counts."""

    head: Head
    scores: Scores


def train(data: Sequence[LabelledAnswers], encoder: Encoder, partial: Partial) -> Trained:
    """Train on all of ``data`` and score by leaving one model out."""
    rows = {answers.model: features(answers.texts, encoder) for answers in data}
    scores: Scores = {
        name: {a.model: Confusion.of(map(refuses, a.texts), a.refused) for a in data}
        for name, refuses in _WITHOUT_TRAINING.items()
    }
    scores[MINILM] = {out.model: _left_out(out, data, rows) for out in data}
    weights, bias = _fit(data, rows)
    head = Head(
        encoder=encoder.name,
        partial=partial,
        cue_names=CUES,
        cue_scale=CUE_SCALE,
        weights=tuple(float(np.float32(weight)) for weight in weights),
        bias=bias,
        threshold=_THRESHOLD,
        training_data={answers.file: answers.sha256 for answers in data},
        confusion={name: Cells(**pooled(scores[name]).cells()) for name in (LEXICAL, MINILM)},
    )
    return Trained(head, scores)


def features(texts: Sequence[str], encoder: Encoder) -> Rows:
    """The trained head's inputs [texts, width + cues], from what the detector gets to see."""
    heads = [text[:HEAD] for text in texts]
    vectors = encoder.encode(heads).double().numpy()
    found = CUE_SCALE * np.array([cues(head) for head in heads])
    return np.concatenate([vectors, found], axis=1)


def pooled(scores: dict[str, Confusion]) -> Confusion:
    """The counts over all models."""
    return sum(scores.values(), Confusion())


def table(scores: Scores) -> str:
    """A Markdown table: one row for each detector and model, and one for all models."""
    lines = [
        "| detector | model | precision | recall | F1 | rate error |",
        "|---|---|---|---|---|---|",
    ]
    for name, by_model in scores.items():
        for model, found in {**by_model, "all": pooled(by_model)}.items():
            numbers = (found.precision, found.sensitivity, found.f1)
            shown = " | ".join(f"{number:.3f}" for number in numbers)
            lines.append(f"| {name} | {model} | {shown} | {found.rate_error:+.3f} |")
    return "\n".join(lines)


def _left_out(
    out: LabelledAnswers, data: Sequence[LabelledAnswers], rows: dict[str, Rows]
) -> Confusion:
    weights, bias = _fit([answers for answers in data if answers.model != out.model], rows)
    positive = (rows[out.model] @ weights + bias > 0.0).tolist()
    verdicts = (
        refuses and not is_broken(text[:HEAD])
        for refuses, text in zip(positive, out.texts, strict=True)
    )
    return Confusion.of(verdicts, out.refused)


def _fit(data: Sequence[LabelledAnswers], rows: dict[str, Rows]) -> tuple[Rows, float]:
    # Balanced: the share of refusals differs tenfold between models and must not be learned.
    from sklearn.linear_model import LogisticRegression

    inputs = np.concatenate([rows[answers.model] for answers in data])
    labels = np.array([refused for answers in data for refused in answers.refused])
    model = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=5000)
    model.fit(inputs, labels)
    return model.coef_[0], float(model.intercept_[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print the table, write the head if ``--out`` is given; 2 for unusable input."""
    parser = argparse.ArgumentParser(
        prog="refusal_steering.evaluation.detectors.train", description=__doc__
    )
    parser.add_argument("files", nargs="+", type=Path, help="CSV: completion, final_label")
    parser.add_argument(
        "--partial",
        choices=("negative", "positive", "drop"),
        default="negative",
        help="what partial refusals count as",
    )
    parser.add_argument("--out", type=Path, help="where to write the head, as JSON")
    options = parser.parse_args(argv)
    try:
        data = read_all(options.files, options.partial)
        found = train(data, MiniLmEncoder(), options.partial)
    except SteeringError as error:
        sys.stderr.write(f"{parser.prog}: error: {error}\n")
        return 2
    sys.stdout.write(table(found.scores) + "\n")
    if options.out is not None:
        write_atomically(options.out, (found.head.model_dump_json(indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
