"""Prompt files: what is read, and how wrong lines are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refusal_steering.errors import SteeringError
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.prompt_file import PromptFileError, read_prompts


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_prompts_and_messages_are_read(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "hello"}]
    path = write(
        tmp_path / "a.jsonl",
        {"label": "harmful", "prompt": "x", "group": "list", "split": "tune"},
        {"label": "harmless", "messages": chat},
    )
    first, second = read_prompts(path)
    assert (first.text, first.harmful, first.split) == ("x", True, "tune")
    assert first.messages == [{"role": "user", "content": "x"}]
    assert second.messages == chat and not second.harmful
    with pytest.raises(PromptFileError, match="vLLM"):
        _ = second.text


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ({"prompt": "x"}, "label"),
        ({"label": "bad", "prompt": "x"}, "label"),
        ({"label": "harmful"}, "either prompt or messages"),
        ({"label": "harmful", "prompt": "x", "messages": [{}]}, "either prompt or messages"),
        ({"label": "harmful", "prompt": "x", "split": "test"}, "split"),
        ([1], "row"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: object, complaint: str) -> None:
    path = write(tmp_path / "a.jsonl", {"label": "harmless", "prompt": "fine"}, line)
    with pytest.raises(PromptFileError, match="line 2") as caught:
        read_prompts(path)
    assert complaint in str(caught.value)


def test_no_file_and_an_empty_file_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", write(tmp_path / "empty.jsonl", "")):
        with pytest.raises(PromptFileError):
            read_prompts(path)


def test_a_corpus_of_files_keeps_every_split_and_no_item_twice(tmp_path: Path) -> None:
    many = [{"prompt": f"request number {n}"} for n in range(200)]
    harmful = write(tmp_path / "harmful.jsonl", *many, many[0])
    harmless = write(tmp_path / "harmless.jsonl", *({"prompt": f"calm {n}"} for n in range(200)))
    corpus = Corpus.of_files(harmful, harmless)
    assert len(corpus.items) == 400 and len({item.id for item in corpus.items}) == 400
    sizes = {split: len(corpus.split(split)) for split in ("train", "tune", "held")}
    assert sum(sizes.values()) == 400 and min(sizes.values()) > 30
    with pytest.raises(SteeringError, match="at least 60"):
        Corpus.of_files(write(tmp_path / "few.jsonl", *many[:10]), harmless)
