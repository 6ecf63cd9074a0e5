"""JSON Lines: a line feed alone ends a line, and what is no row is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refusal_steering.errors import EvaluationError, OmnibenchError, SteeringError
from refusal_steering.evaluation.suites.rows import read_rows
from refusal_steering.omnibench.rows import load_rows
from refusal_steering.prompts.json_lines import JsonLinesError, read_json_lines
from refusal_steering.prompts.prompt_file import PromptFileError, read_prompts

# What str.splitlines takes for the end of a line.
ENDS = ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e")
ROW = {"id": "a", "label": "harmless", "prompt": "How do I boil an egg?"}


def raw(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("end", ENDS[:3])
def test_a_character_inside_a_string_ends_no_line(tmp_path: Path, end: str) -> None:
    rows = [{**ROW, "id": name, "prompt": f"one{end}two"} for name in "ab"]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = raw(tmp_path / "a.jsonl", text)
    assert [row for _, row in read_json_lines(path)] == rows == read_rows(path)
    assert [row.prompt for row in read_prompts(path)] == [f"one{end}two"] * 2
    # The words that are drawn and spoken have single spaces.
    assert {row.prompt for row in load_rows(path).rows} == {"one two"}


@pytest.mark.parametrize("end", ENDS)
def test_every_other_end_of_a_line_is_kept_where_json_allows_it(tmp_path: Path, end: str) -> None:
    row = {"prompt": f"one{end}two"}
    path = raw(tmp_path / "a.jsonl", json.dumps(row) + "\r\n\n" + json.dumps(row))
    assert read_json_lines(path) == [(1, row), (3, row)]


@pytest.mark.parametrize(
    "read", [read_json_lines, read_prompts, load_rows, read_rows], ids=lambda one: one.__name__
)
def test_every_reader_passes_over_a_byte_order_mark(read: object, tmp_path: Path) -> None:
    assert callable(read)
    path = raw(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + json.dumps(ROW).encode())
    read(path)


def test_other_formats_pass_over_a_byte_order_mark(tmp_path: Path) -> None:
    assert read_rows(raw(tmp_path / "a.json", b"\xef\xbb\xbf" + json.dumps([ROW]).encode())) == [
        ROW
    ]
    assert read_rows(raw(tmp_path / "a.csv", b"\xef\xbb\xbfprompt\nx\n")) == [{"prompt": "x"}]


BROKEN: list[tuple[str | bytes, str]] = [
    (json.dumps([ROW, ROW]), "JSON array"),
    (json.dumps([ROW, ROW], indent=2), "JSON array"),
    ("[]", "JSON array"),
    (json.dumps(ROW).encode("utf-16"), "UTF-16"),
    (b'{"prompt": "\xff"}', "line 1 is not UTF-8"),
    ("\n" + json.dumps(ROW)[:-4], "line 2 is not JSON"),
    (json.dumps(ROW, indent=2), "line 1 is not JSON"),
    ('"words"', "line 1 is a string"),
    ("3", "line 1 is a number"),
    ("null", "line 1 is a null"),
    ('{"prompt": "a", "prompt": "b"}', "'prompt' stands twice"),
    ('{"prompt": NaN}', "NaN"),
    ('{"prompt": "\\ud83d"}', "half a character"),
    ('{"prompt": ' + "[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("content", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_what_is_no_row_is_named_by_every_reader(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    path = raw(tmp_path / "a.jsonl", content)
    readers = (
        (read_json_lines, JsonLinesError),
        (read_prompts, PromptFileError),
        (load_rows, OmnibenchError),
        (read_rows, EvaluationError),
    )
    for read, kind in readers:
        with pytest.raises(kind, match=r"a\.jsonl") as caught:
            read(path)
        assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("none.jsonl", "."):
        with pytest.raises(JsonLinesError, match="cannot read"):
            read_json_lines(tmp_path / name)
    with pytest.raises(SteeringError, match="no file"):
        read_rows(tmp_path / "none.jsonl")
