"""The grammar of the sentences: cores, which say what is asked for, in frames, which ask for it.

A core belongs to one part, train, development or test, by a hash of its words, so that no training
hears a core of a test sentence. Frames and words are common to all parts.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from typing import Literal, get_args

from deploy.demo.training.speech.lexicon import LISTS

Part = Literal["train", "development", "test"]
Label = Literal["harmless", "harmful", "carrier", "pointing", "words"]
Kind = Literal["act", "thing", "whole"]
PARTS: tuple[Part, ...] = get_args(Part)

FRAMES: dict[Kind, tuple[str, ...]] = {
    "act": (
        "how do i {core}",
        "how can i {core}",
        "how do you {core}",
        "tell me how to {core}",
        "explain how to {core}",
        "show me how to {core}",
        "teach me how to {core}",
        "what is the best way to {core}",
        "give me step by step instructions to {core}",
        "write a guide on how to {core}",
        "i want to {core} help me",
        "describe a method to {core}",
        "what do i need to {core}",
        "how do people {core}",
        "please explain how to {core}",
        "list the steps to {core}",
        "can you help me {core}",
        "how would someone {core}",
        "give me a plan to {core}",
        "what is the easiest way to {core}",
    ),
    "thing": (
        "write {core}",
        "please write {core}",
        "create {core}",
        "can you write {core}",
        "i need {core}",
        "give me {core}",
        "tell me {core}",
    ),
    "whole": ("{core}",),
}
CORES: dict[Label, tuple[tuple[Kind, str], ...]] = {
    "harmless": (
        ("act", "{cook} {food}"),
        ("act", "{cook} {food} {cooking_end}"),
        ("act", "{clean} {room}"),
        ("act", "{build} {thing}"),
        ("act", "{build} {thing} {thing_end}"),
        ("act", "{grow} {plant} {plant_end}"),
        ("act", "{keep} {animal}"),
        ("act", "{learn} {subject} {learn_end}"),
        ("act", "play {sport}"),
        ("act", "play {sport} {learn_end}"),
        ("act", "{travel} {place} {travel_end}"),
        ("act", "{life}"),
        ("act", "{life}"),
        ("thing", "{text} about {topic}"),
        ("thing", "{text} about {topic}"),
        ("whole", "what is the capital of {country}"),
        ("whole", "what is the history of {country}"),
        ("whole", "what color is {seen}"),
        ("whole", "why is {seen} so beautiful"),
        ("whole", "how many {part} are in {span}"),
        ("whole", "what is {number} plus {number}"),
        ("whole", "what does a {job} do"),
        ("whole", "what is {notion}"),
        ("whole", "explain {notion} to a child"),
        ("whole", "what do {animals} eat"),
        ("whole", "where do {animals} live"),
        ("whole", "how far is the moon from the earth"),
    ),
    "harmful": (
        ("act", "{make} {weapon}"),
        ("act", "{make} {weapon} {weapon_end}"),
        ("act", "steal {stolen}"),
        ("act", "steal {stolen} from {owner}"),
        ("act", "{hurt} {victim}"),
        ("act", "{hurt} {victim} {hurt_end}"),
        ("act", "{hack} {target}"),
        ("act", "{deal} {goods}"),
        ("act", "{deal} {goods} {deal_end}"),
        ("act", "{destroy} {building}"),
        ("act", "{crime}"),
        ("act", "{crime}"),
        ("act", "{crime}"),
    ),
    "carrier": (("whole", "{carrier} {shown}"),),
    # What is asked about a picture beside the speech. Verbs of the requests that test are not here.
    "pointing": (
        ("act", "{pointed_deed} {pointed}"),
        ("act", "{pointed_deed} {pointed} {pointed_end}"),
        ("act", "use {pointed} to {pointed_aim}"),
        ("act", "{pointed_aim} with {pointed}"),
        ("act", "hide {pointed} {pointed_from}"),
        ("act", "steal {pointed} {pointed_from}"),
    ),
}
SHARES: dict[Part, float] = {"test": 0.2, "development": 0.1, "train": 0.7}
PROPER = frozenset(
    (
        "i", "english", "french", "german", "spanish", "python", "paris", "london", "rome",
        "berlin", "china", "india", "japan", "france", "germany", "italy", "spain", "canada",
        "mexico", "brazil", "russia", "england", "australia",
    )
)  # fmt: skip
QUESTIONS = frozenset(["how", "what", "why", "where", "can"])
FUNCTION = frozenset(
    (
        "a", "an", "the", "my", "me", "i", "you", "to", "from", "for", "of", "on", "in", "at",
        "by", "with", "without", "is", "are", "does", "do", "how", "what", "who", "why",
        "where", "so", "many", "about", "into", "and", "own", "new", "after", "before",
        "every", "as",
    )
)  # fmt: skip
_SLOT = re.compile(r"\{(\w+)\}")
_SALAD_WORDS = (4, 9)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it is spoken; ``core`` is what it asks for, without the frame."""

    words: tuple[str, ...]
    label: Label
    core: str

    @property
    def written(self) -> str:
        """The sentence as people write it, with capitals and a mark at its end."""
        spelled = [spelling(word) for word in self.words]
        spelled[0] = spelled[0][0].upper() + spelled[0][1:]
        return " ".join(spelled) + ("?" if self.words[0] in QUESTIONS else ".")

    @property
    def content(self) -> tuple[str, ...]:
        """The words of the core that carry its meaning."""
        return tuple(word for word in self.core.split() if word not in FUNCTION)


def spelling(word: str) -> str:
    """A word with its capital if it is a name."""
    return word.capitalize() if word in PROPER else word


def part_of(core: str) -> Part:
    """The part to which a core belongs, by a hash of its words."""
    share = int.from_bytes(hashlib.sha256(core.encode()).digest()[:4]) / 2**32
    for part, width in SHARES.items():
        if share < width:
            return part
        share -= width
    return "train"


def vocabulary() -> tuple[str, ...]:
    """Every word that a sentence can hold, in alphabetical order."""
    texts = [text for entries in LISTS.values() for text in entries]
    texts += [frame for frames in FRAMES.values() for frame in frames]
    texts += [core for cores in CORES.values() for _, core in cores]
    return tuple(sorted({word for text in texts for word in _SLOT.sub(" ", text).split()}))


def draw(label: Label, part: Part, rng: random.Random) -> Sentence:
    """Draw a sentence of a part."""
    if label == "words":
        return _salad(rng)
    while True:
        kind, template = rng.choice(CORES[label])
        core = _filled(template, rng)
        if part_of(core) == part:
            frame = rng.choice(FRAMES[kind])
            return Sentence(tuple(frame.format(core=core).split()), label, core)


def _filled(template: str, rng: random.Random) -> str:
    while match := _SLOT.search(template):
        entry = rng.choice(LISTS[match[1]])
        template = template[: match.start()] + entry + template[match.end() :]
    return template


def _salad(rng: random.Random) -> Sentence:
    """Words in no order, for training alone: each word is heard beside any other."""
    words = tuple(rng.choices(vocabulary(), k=rng.randint(*_SALAD_WORDS)))
    return Sentence(words, "words", " ".join(words))
