"""Prompt files: what is read, and how wrong lines are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refusal_steering.errors import SteeringError
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.prompt_file import PromptFileError, read_prompts

BLANK = (" ", "\n\t", "\u00a0", "\u200b\ufeff", "\u2028", "\x00")


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


def test_rows_of_the_benchmark_have_their_combination_as_group(tmp_path: Path) -> None:
    row = {"label": "harmful", "combo": "t2i", "messages": [{"role": "user", "content": "x"}]}
    path = write(tmp_path / "a.jsonl", row, {**row, "group": "own"})
    assert [one.group for one in read_prompts(path)] == ["t2i", "own"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ({"prompt": "x"}, "no column 'label'"),
        ({"label": "bad", "prompt": "x"}, "label"),
        ({"label": "harmful"}, "no column 'prompt' or 'messages'"),
        ({"label": "harmful", "prompt": ""}, "either prompt or messages"),
        ({"label": "harmful", "prompt": "x", "messages": [{}]}, "either prompt or messages"),
        ({"label": "harmful", "prompt": "x", "split": "test"}, "split"),
        ([1], "a list"),
        *(({"label": "harmful", "prompt": blank}, "blank") for blank in BLANK),
        ({"label": "harmful", "text": "x", "source": "y"}, "found: 'label', 'text', 'source'"),
        ({"label": "harmful", "promt": "x"}, "did you mean 'prompt'"),
        ({"label": "harmful", "Prompt": "x"}, "did you mean 'prompt'"),
        ({"label": "harmful", "prompt": "x", "spilt": "held"}, "did you mean 'split'"),
        ({"lable": "harmful", "prompt": "x"}, "did you mean 'label'"),
        ({"label": "harmful", "prompt": "x", "gruop": "y"}, "did you mean 'group'"),
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


def test_columns_of_the_users_own_are_left_alone(tmp_path: Path) -> None:
    own = {"id": 1, "source": "mine", "category": "x", "language": "en", "line": 7}
    path = write(tmp_path / "a.jsonl", {"label": "harmful", "prompt": "x", **own})
    assert read_prompts(path)[0].line == 1


REQUESTS = [{"prompt": f"request number {n}"} for n in range(200)]
OTHERS = [{"prompt": f"another {n}"} for n in range(200)]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((REQUESTS, REQUESTS), "line 1, is the same request as"),
        ((REQUESTS, [*OTHERS, REQUESTS[7]]), r"line 8, is the same request as .* line 201 \(1 "),
        ((REQUESTS, [*OTHERS, {"prompt": " request number 7\n"}]), "line 8, is the same"),
        (([{**row, "label": "harmless"} for row in REQUESTS], OTHERS), "swapped"),
        ((REQUESTS, [{**row, "label": "harmful"} for row in OTHERS]), "swapped"),
        (([*REQUESTS, {"prompt": "x", "label": "harmless"}], OTHERS), "line 201.*swapped"),
        (([{"messages": [{"role": "user", "content": "x"}]}], OTHERS), "line 1 has messages"),
        ((REQUESTS[:100], OTHERS[:20]), "harmless requests fall into"),
    ],
)
def test_files_that_contradict_each_other_are_refused(
    tmp_path: Path, files: tuple[list[object], list[object]], words: str
) -> None:
    paths = [write(tmp_path / name, *rows) for name, rows in zip("ab", files, strict=True)]
    with pytest.raises(SteeringError, match=words):
        Corpus.of_files(*paths)


@pytest.mark.parametrize(
    "names",
    [
        ("harmless.jsonl", "harmful.jsonl"),
        ("my-harmless-requests.jsonl", "requests.jsonl"),
        ("benign.jsonl", "malicious.jsonl"),
        ("Harmless.jsonl", "Harmful.jsonl"),
        ("benign_v2.jsonl", "b.jsonl"),
    ],
)
def test_swapped_files_are_told_by_their_names(tmp_path: Path, names: tuple[str, str]) -> None:
    paths = [
        write(tmp_path / name, *rows) for name, rows in zip(names, (REQUESTS, OTHERS), strict=True)
    ]
    with pytest.raises(SteeringError, match="swapped"):
        Corpus.of_files(*paths)
    assert Corpus.of_files(*reversed(paths)).items
