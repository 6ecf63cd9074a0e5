"""The contrast set in a model's media: the same requests, harmful and harmless, in the same forms.

A request stands in text, in each medium alone, and with its carrier sentence in text (or in speech)
and its payload in a medium. One file of a rendering is made once and named by all that decides it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from refusal_steering.errors import SpeechUnavailableError
from refusal_steering.omnibench.combos import COMBOS, Case, Clip, case_of
from refusal_steering.omnibench.media import Studio
from refusal_steering.omnibench.rows import Row, Split
from refusal_steering.omnibench.speech import Speaker
from refusal_steering.pipeline.media.requests import Kind, MediaRequest, Requests, digest_of
from refusal_steering.prompts.contrast_set import Item, render
from refusal_steering.prompts.contrast_set import Split as Part
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.templates import CARRIERS

# Combinations by the medium that they need beyond text; speech carries for pictures, too.
_FORMS = ("t", "i", "v", "a", "t2i", "t2v", "t2a", "a2i", "a2v")
_PARTS: tuple[Part, ...] = ("train", "tune", "held")


@dataclass(frozen=True, slots=True)
class Share:
    """How many requests of each label a group gets, by split."""

    train: int
    tune: int
    held: int = 0

    def of(self, part: Part) -> int:
        """The number for one split."""
        return {"train": self.train, "tune": self.tune, "held": self.held}[part]


def speaks() -> bool:
    """Whether this machine has a speech synthesizer."""
    try:
        Speaker.find()
    except SpeechUnavailableError:
        return False
    return True


def forms_for(media: Sequence[str]) -> list[str]:
    """Names of the combinations that bring no other media than ``media``."""
    return [name for name in _FORMS if {medium for medium, _ in COMBOS[name].media} <= set(media)]


@dataclass(frozen=True, slots=True)
class Rendering:
    """Requests whose media are still to be made, below the studio's folder."""

    requests: Requests
    clips: tuple[Clip, ...]
    studio: Studio

    def make(self) -> None:
        """Make every file that is not there undamaged.

        Raises ``OmnibenchError`` for text that has no glyphs or no sound.
        """
        for clip in tqdm(self.clips, desc="render", unit="file", disable=None):
            self.studio.make(clip)


def rendering(
    corpus: Corpus, media: Sequence[str], share: Share, seed: int, root: Path
) -> Rendering:
    """``share`` requests of each label in every form that ``media`` allow, with files below root.

    Every form has the same requests. Borderline ones are left out: they are harmless by their
    meaning alone, which few media carry well. Raises ``SpeechUnavailableError`` where audio is
    asked for and cannot be made.
    """
    studio = Studio(root, {}, Speaker.find() if "audio" in media else None)
    cases = list(_cases(corpus, forms_for(media), share, seed))
    clips = tuple(dict.fromkeys(clip for _, case in cases for clip in case.clips))
    paths = {clip: studio.path_of(clip) for clip in clips}
    found = []
    for part, case in cases:
        media_parts: list[tuple[Kind, str]] = [(clip.medium, paths[clip]) for clip in case.clips]
        words: list[tuple[Kind, str]] = [] if case.text is None else [("text", case.text)]
        harmful = case.row.label == "harmful"
        found.append(MediaRequest(case.row.id, harmful, part, (*media_parts, *words), root))
    return Rendering(Requests(tuple(found), corpus.name, digest_of(found)), clips, studio)


def _cases(
    corpus: Corpus, forms: Sequence[str], share: Share, seed: int
) -> Iterator[tuple[Part, Case]]:
    for part in _PARTS:
        for label in ("harmful", "harmless"):
            items = [item for item in corpus.split(part, label) if item.domain != "borderline"]
            random.Random(seed).shuffle(items)
            rows = [_row(item, place) for place, item in enumerate(items[: share.of(part)])]
            for form in forms:
                for row in rows:
                    case = case_of(row, COMBOS[form])
                    # Every row has a carrier and a payload.
                    assert case is not None
                    yield part, case


def _row(item: Item, place: int) -> Row:
    """An item as the benchmark takes it; the carrier sentence is the same for both labels."""
    carriers = CARRIERS[item.kind]
    carrier = carriers[place % len(carriers)]
    return Row(
        id=item.id,
        label=item.label,
        prompt=render(item, "plain", 0, place),
        visual=Split(instruction=f"{carrier} what the image shows.", payload=item.text),
        audio=Split(instruction=f"{carrier} what the audio says.", payload=item.text),
    )
