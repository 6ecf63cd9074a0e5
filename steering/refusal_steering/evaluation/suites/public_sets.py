"""The public data sets that are known by name: where their rows are and how to read them.

This package contains no part of them. Facts are from the sets' own pages; a set without a fixed
commit follows ``main``, and the results record the commit that was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from refusal_steering.evaluation.case import Label
from refusal_steering.evaluation.suites.rows import Row

Reader = Literal["prompt", "multiple-choice", "image-column", "figstep", "files"]
LabelRule = Label | Literal["xstest"]


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One data set.

    ``files`` are paths in its repository; a local copy keeps them. ``rows`` is how many rows a
    whole copy gives after ``keep``, which maps a column to the values that stay (a column that a
    copy lacks is not looked at). ``prompt`` names the column of the request, by preference.
    ``sample`` is how many rows are used unless a limit says less. ``local`` sets have media in
    archives, or terms to be accepted, so that only a local copy can be read.
    """

    name: str
    files: tuple[str, ...]
    rows: int
    label: LabelRule
    home: str
    repo: str | None = None
    revision: str = "main"
    reader: Reader = "prompt"
    prompt: tuple[str, ...] = ("prompt",)
    keep: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sample: int | None = None

    @property
    def local(self) -> bool:
        """Whether only a local copy can be read."""
        return self.repo is None

    def keeps(self, row: Row) -> bool:
        """Whether the set's protocol uses this row."""
        return all(str(row[column]) in kept for column, kept in self.keep.items() if column in row)


# The scenarios whose every request asks for harm; the other five ask for advice, where a refusal
# is not plainly right. 972 requests; "Illegal_Activitiy" is how the set spells it.
_MM_SCENARIOS = (
    "Illegal_Activitiy",
    "HateSpeech",
    "Malware_Generation",
    "Physical_Harm",
    "EconomicHarm",
    "Fraud",
    "Sex",
    "Privacy_Violence",
)
_MM_VARIANTS = ("SD", "SD_TYPO", "TYPO", "Text_only")
_LOOKS = ("diffusion", "typo", "diff_typo")
_SOUNDS = ("tts", "tts_noise")
_OMNI_PARTS = (
    *(f"unimodal/{kind}-only" for kind in ("text", "image", "video", "audio")),
    *(f"dual-modal/{kind}-text/{look}" for kind in ("image", "video") for look in _LOOKS),
    *(f"dual-modal/audio-text/{sound}" for sound in _SOUNDS),
    *(
        f"omni-modal/{kind}-audio-text/{look}-{sound}"
        for kind in ("image", "video")
        for look in _LOOKS
        for sound in _SOUNDS
    ),
)

PUBLIC_SETS: dict[str, PublicSet] = {
    known.name: known
    for known in (
        PublicSet(
            "advbench",
            ("data/train-00000-of-00001.parquet",),
            520,
            "harmful",
            "huggingface.co/datasets/walledai/AdvBench, or harmful_behaviors.csv of its authors",
            repo="walledai/AdvBench",
            prompt=("prompt", "goal"),
        ),
        PublicSet(
            "harmbench",
            ("standard/train-00000-of-00001.parquet",),
            200,
            "harmful",
            "huggingface.co/datasets/walledai/HarmBench, or harmbench_behaviors_text_all.csv",
            repo="walledai/HarmBench",
            prompt=("prompt", "Behavior"),
            keep={"FunctionalCategory": frozenset({"standard"})},
        ),
        PublicSet(
            "strongreject",
            ("data/train-00000-of-00001.parquet",),
            313,
            "harmful",
            "huggingface.co/datasets/walledai/StrongREJECT, or strongreject_dataset.csv",
            repo="walledai/StrongREJECT",
            revision="df54272b395ce9e584d2f8140519935425d8549f",
            prompt=("prompt", "forbidden_prompt"),
        ),
        PublicSet(
            "xstest",
            ("data/train-00000-of-00001.parquet",),
            450,
            "xstest",
            "huggingface.co/datasets/walledai/XSTest, or a CSV of github.com/paul-rottger/xstest",
            repo="walledai/XSTest",
            revision="f1d713187c61b6ae64e602d74f0b3d812cc2e8e8",
        ),
        PublicSet(
            "or-bench-hard",
            ("or-bench-hard-1k.csv",),
            1319,
            "borderline",
            "huggingface.co/datasets/bench-llm/or-bench",
            repo="bench-llm/or-bench",
            revision="e36d8b80e81837c8a8f264bbb2a49f1b32c7e272",
        ),
        PublicSet(
            "or-bench-toxic",
            ("or-bench-toxic.csv",),
            655,
            "harmful",
            "huggingface.co/datasets/bench-llm/or-bench",
            repo="bench-llm/or-bench",
            revision="e36d8b80e81837c8a8f264bbb2a49f1b32c7e272",
        ),
        PublicSet(
            "mmlu",
            ("all/test-00000-of-00001.parquet",),
            14_042,
            "harmless",
            "huggingface.co/datasets/cais/mmlu",
            repo="cais/mmlu",
            revision="c30699e8356da336a370243923dbaf21066bb9fe",
            reader="multiple-choice",
            prompt=("question",),
            sample=400,
        ),
        PublicSet(
            "mm-safetybench",
            tuple(
                f"data/{place}/{look}.parquet" for look in _MM_VARIANTS for place in _MM_SCENARIOS
            ),
            972 * len(_MM_VARIANTS),
            "harmful",
            "huggingface.co/datasets/PKU-Alignment/MM-SafetyBench",
            repo="PKU-Alignment/MM-SafetyBench",
            reader="image-column",
            prompt=("question",),
        ),
        PublicSet(
            "figstep",
            ("data/question/safebench.csv",),
            350,
            "harmful",
            "github.com/CryptoAILab/FigStep, with data/images/SafeBench",
            reader="figstep",
            # Topics 8 to 10 ask for legal, financial and medical advice.
            keep={"category_id": frozenset("1234567")},
        ),
        PublicSet(
            "omni-safetybench",
            tuple(f"meta_files/{part}.jsonl" for part in _OMNI_PARTS),
            972 * len(_OMNI_PARTS),
            "harmful",
            "huggingface.co/datasets/Leyiii/Omni-SafetyBench, each data.tar unpacked where it lies",
            reader="files",
            prompt=("text",),
        ),
        PublicSet(
            "video-safetybench",
            ("harmful.json",),
            1132,
            "harmful",
            "huggingface.co/datasets/BAAI/Video-SafetyBench (terms to accept): its split "
            "'harmful' as JSON, and video.tar.gz unpacked beside it",
            reader="files",
            prompt=("question",),
        ),
    )
}
