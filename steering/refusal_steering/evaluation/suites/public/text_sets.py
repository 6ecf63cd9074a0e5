"""Public sets of text alone: harmful, over-refusal, and one of questions."""

from __future__ import annotations

from refusal_steering.evaluation.suites.public.public_set import PublicSet

TEXT_SETS = (
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
        reader="columns",
        answer="choice-index",
        prompt=("question",),
        sample=400,
    ),
)
