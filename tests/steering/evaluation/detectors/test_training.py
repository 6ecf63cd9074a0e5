"""The trained detector: its labelled answers, its shipped head, its measured worth."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from refusal_steering.detection.confusion import Confusion
from refusal_steering.detection.cues import CUES
from refusal_steering.detection.detector import LEXICAL, MINILM, verdict_on
from refusal_steering.detection.encoder import MiniLmEncoder
from refusal_steering.detection.head import shipped_head
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.detection.minilm import MiniLmDetector
from refusal_steering.evaluation.detectors import phrase_lists
from refusal_steering.evaluation.detectors.labelled import LabelledDataError, read_all
from refusal_steering.evaluation.detectors.train import pooled, train
from tests.needs import SHARED, need

DATA = SHARED / "xstest"


class Hashed:
    """A stand-in encoder: sums of random vectors of words."""

    name = "hashed"

    def encode(self, texts: Sequence[str]) -> Tensor:
        rows = [
            sum(
                (_vector(word) for word in text.lower().split()),
                torch.zeros(32),
            )
            for text in texts
        ]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def _vector(word: str) -> Tensor:
    seed = int(hashlib.sha256(word.encode()).hexdigest()[:8], 16)
    return torch.randn(32, generator=torch.Generator().manual_seed(seed))


def write_answers(path: Path, refusals: str, answers: str, partial: int = 0) -> Path:
    lines = ["completion,final_label"]
    lines += [f'"{refusals} topic{i}\n\nmore",2_full_refusal' for i in range(20)]
    lines += [f'"{answers} topic{i}",1_full_compliance' for i in range(30)]
    lines += [f'"Hm {i}",3_partial_refusal' for i in range(partial)]
    path.write_text("\n".join([*lines, '"  ",1_full_compliance']) + "\n")
    return path


def test_partial_refusals_count_as_the_option_says_and_empty_answers_do_not(tmp_path: Path) -> None:
    files = [
        write_answers(tmp_path / f"completions_{name}.csv", "No", "Yes", partial=7)
        for name in ("a", "b")
    ]
    for partial, total, refused in (("negative", 57, 20), ("positive", 57, 27), ("drop", 50, 20)):
        first, second = read_all(files, partial)  # type: ignore[arg-type]
        assert (first.model, second.model) == ("a", "b")
        assert (len(first.texts), sum(first.refused)) == (total, refused)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    good = write_answers(tmp_path / "a.csv", "No", "Yes")
    other = tmp_path / "b.csv"
    for content in (b"\xff\xfe", b"completion\nx\n", b"completion,final_label\nx,9_odd\n", b""):
        other.write_bytes(content)
        with pytest.raises(LabelledDataError):
            read_all([good, other], "drop")
    for paths in ([good], [good, good], [good, tmp_path / "missing.csv"]):
        with pytest.raises(LabelledDataError):
            read_all(paths, "drop")


def test_no_model_is_judged_by_a_head_that_saw_its_answers(tmp_path: Path) -> None:
    # Model b refuses in the words that model a answers with: a head that has seen b does well on
    # b, one that has not must be wrong about every answer.
    files = [
        write_answers(tmp_path / "a.csv", "zebra apple", "quartz violin"),
        write_answers(tmp_path / "b.csv", "quartz violin", "zebra apple"),
    ]
    data = read_all(files, "negative")
    found = train(data, Hashed(), "negative")
    for model in ("a", "b"):
        cells = found.scores[MINILM][model]
        assert cells.tp + cells.tn < 0.1 * cells.total
    assert found.head.training_data == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def test_the_shipped_head_fits_its_cues_and_names_its_data() -> None:
    head = shipped_head()
    assert len(head.weights) == 384 + len(CUES)
    assert len(head.training_data) >= 2
    assert set(head.confusion) == {LEXICAL, MINILM} == {LexicalDetector.name, MiniLmDetector.name}
    lexical, minilm = (head.confusion[name].confusion for name in (LEXICAL, MINILM))
    assert lexical.total == minilm.total > 800
    assert minilm.f1 > lexical.f1


@pytest.fixture(scope="module")
def encoder() -> MiniLmEncoder:
    return MiniLmEncoder()


def test_minilm_tells_refusals_from_answers_whatever_the_batch(encoder: MiniLmEncoder) -> None:
    detector = MiniLmDetector(encoder)
    polite = "It is never acceptable to hurt others. I can't provide instructions for that."
    recipe = "Here are the steps:\n1. Heat the oven to 200 degrees.\n2. Mix flour and water."
    assert verdict_on(polite, detector) == "refusal"
    assert verdict_on(recipe, detector) == "answer"
    assert verdict_on("I cannot help. " * 20, detector) == "broken"
    single = torch.cat([encoder.encode([text]) for text in (polite, recipe)])
    assert torch.allclose(encoder.encode([polite, recipe]), single, atol=1e-5)
    assert torch.allclose(single.norm(dim=1), torch.ones(2), atol=1e-5)
    assert math.isclose(detector.probability(polite), detector.probability(polite + " " * 500))


def labelled_files() -> list[Path]:
    need("shared-data")
    return sorted(DATA.glob("completions_*.csv"))


def test_the_shipped_counts_are_those_of_the_detector_that_judges_every_answer() -> None:
    data = read_all(labelled_files(), "negative")
    counts = (
        Confusion.of(
            (verdict_on(text, LexicalDetector()) == "refusal" for text in answers.texts),
            answers.refused,
        )
        for answers in data
    )
    head = shipped_head()
    assert sum(counts, Confusion()) == head.confusion[LEXICAL].confusion
    assert {answers.file: answers.sha256 for answers in data} == head.training_data


@pytest.mark.slow
def test_minilm_beats_the_lists_on_models_it_has_not_seen(encoder: MiniLmEncoder) -> None:
    found = train(read_all(labelled_files(), "negative"), encoder, "negative")
    head = json.loads(shipped_head().model_dump_json())
    assert found.head.training_data == head["training_data"]
    ours, lists = found.scores[MINILM], found.scores["union of lists"]
    total, listed = (sum(scores.values(), Confusion()) for scores in (ours, lists))
    assert total.f1 > listed.f1 + 0.02
    worst, worst_listed = (
        max(abs(cells.rate_error) for cells in scores.values()) for scores in (ours, lists)
    )
    assert worst < 0.5 * worst_listed
    assert np.allclose(found.head.weights, head["weights"], atol=1e-3)
    shipped = shipped_head().confusion
    assert pooled(found.scores[LEXICAL]) == shipped[LEXICAL].confusion
    assert pooled(found.scores[MINILM]) == shipped[MINILM].confusion


def test_the_union_holds_what_each_list_holds() -> None:
    for text in ("I cannot do it", "It's not right", "Well. It is never acceptable.", "Sure!"):
        each = (phrase_lists.has_opener, phrase_lists.has_moral, phrase_lists.has_phrase)
        assert phrase_lists.in_any_list(text) == any(judge(text) for judge in each)
