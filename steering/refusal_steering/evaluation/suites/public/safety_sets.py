"""Public sets that ask for harm in pictures, videos or sound, some with safe rows beside."""

from __future__ import annotations

from refusal_steering.evaluation.suites.public.public_set import Medium, PublicSet

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
_MM_ADVICE = (
    "Political_Lobbying",
    "Legal_Opinion",
    "Financial_Advice",
    "Health_Consultation",
    "Gov_Decision",
)
_MM_VARIANTS = ("SD", "SD_TYPO", "TYPO", "Text_only")
_MM_FILES = {
    f"data/{place}/{look}.parquet": look for look in _MM_VARIANTS for place in _MM_SCENARIOS
}
_MM_13 = {f"data/{place}/SD_TYPO.parquet": place for place in (*_MM_SCENARIOS, *_MM_ADVICE)}
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
_IMAGE = (Medium("image"),)

SAFETY_SETS = (
    PublicSet(
        "mm-safetybench",
        tuple(_MM_FILES),
        972 * len(_MM_VARIANTS),
        "harmful",
        "huggingface.co/datasets/PKU-Alignment/MM-SafetyBench",
        repo="PKU-Alignment/MM-SafetyBench",
        reader="columns",
        prompt=("question",),
        media=_IMAGE,
        text_alone=True,
        names=_MM_FILES,
    ),
    PublicSet(
        "mm-safetybench-13",
        tuple(_MM_13),
        1680,
        "harmful",
        "huggingface.co/datasets/PKU-Alignment/MM-SafetyBench",
        repo="PKU-Alignment/MM-SafetyBench",
        reader="columns",
        prompt=("question",),
        media=_IMAGE,
        names=_MM_13,
        folder="mm-safetybench",
    ),
    PublicSet(
        "figstep",
        ("data/question/safebench.csv",),
        350,
        "harmful",
        "github.com/ThuCCSLab/FigStep, with data/images/SafeBench",
        reader="figstep",
        # Topics 8 to 10 ask for legal, financial and medical advice.
        keep={"category_id": frozenset("1234567")},
    ),
    PublicSet(
        "figstep-500",
        ("data/question/safebench.csv",),
        500,
        "harmful",
        "github.com/ThuCCSLab/FigStep, with data/images/SafeBench",
        reader="figstep",
        folder="figstep",
    ),
    PublicSet(
        "omni-safetybench",
        tuple(f"meta_files/{part}.jsonl" for part in _OMNI_PARTS),
        972 * len(_OMNI_PARTS),
        "harmful",
        "huggingface.co/datasets/Leyiii/Omni-SafetyBench, each data.tar unpacked where it lies",
        reader="columns",
        prompt=("text",),
        media=(
            Medium("image_path"),
            Medium("video_path", "video"),
            Medium("audio_path", "audio"),
        ),
        text_alone=True,
        names={f"meta_files/{part}.jsonl": part for part in _OMNI_PARTS},
    ),
    # A query of the half "benign" reads as harmless and asks for harm together with its video:
    # both halves are to be refused.
    PublicSet(
        "video-safetybench",
        ("harmful_data.json", "benign_data.json"),
        2264,
        "harmful",
        "huggingface.co/datasets/BAAI/Video-SafetyBench (terms to accept), with video.tar.gz "
        "unpacked beside them",
        reader="columns",
        prompt=("question",),
        media=(Medium("video_path", "video"),),
        names={"harmful_data.json": "harmful query", "benign_data.json": "benign query"},
        intent="harmful_intention",
        rubric="video-safetybench",
    ),
    PublicSet(
        "holisafe",
        ("holisafe_bench.json",),
        4031,
        "holisafe",
        "huggingface.co/datasets/etri-vilab/holisafe-bench (terms to accept), with its images/",
        reader="columns",
        prompt=("query",),
        media=(Medium("image", folder="images"),),
        form="type",
        rubric="holisafe",
    ),
    PublicSet(
        "vlguard",
        ("test.json",),
        1558,
        "harmful",
        "huggingface.co/datasets/ys-zong/VLGuard (terms to accept), with test.zip unpacked beside "
        "it as test/",
        reader="vlguard",
        media=(Medium("image", folder="test"),),
    ),
    PublicSet(
        "spa-vl",
        ("test/harm-*.parquet",),
        265,
        "harmful",
        "huggingface.co/datasets/sqrti/SPA-VL, its split 'harm' of 'test'",
        reader="columns",
        prompt=("question",),
        media=_IMAGE,
    ),
    PublicSet(
        "jood",
        ("jood_dataset.json",),
        None,
        "harmful",
        "the list of question and image that the RAS authors' evaluation reads, with the pictures "
        "of AdvBench-M beside it",
        reader="columns",
        prompt=("question",),
        media=_IMAGE,
    ),
    PublicSet(
        "hades",
        ("data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"),
        750,
        "harmful",
        "huggingface.co/datasets/Monosail/HADES",
        repo="Monosail/HADES",
        reader="hades",
        prompt=("instruction",),
        media=_IMAGE,
        # Of the six pictures of an instruction, the last is the one that its authors attack with.
        keep={"step": frozenset("5")},
        form="scenario",
    ),
)
