"""A rendered folder: the same every time, complete, and honest about what it lacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import OmnibenchError, SpeechUnavailableError
from refusal_steering.omnibench import COMBOS, build
from refusal_steering.omnibench.media import safe_stem
from tests.steering.omnibench.conftest import FLAT, NESTED, SILENT, needs_speech

Write = Callable[..., Path]


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def times(root: Path) -> dict[str, tuple[int, int]]:
    media = (root / "media").iterdir()
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in media}


def manifest_of(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / "manifest.json").read_bytes())
    return loaded


def cases(root: Path, combo: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / f"{combo}.jsonl").read_text().splitlines()]


def test_two_runs_are_byte_identical(write: Write, tmp_path: Path) -> None:
    source = write(NESTED, FLAT)
    for name in ("one", "two"):
        build(source, tmp_path / name, SILENT)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@needs_speech
def test_two_runs_with_speech_are_byte_identical(write: Write, tmp_path: Path) -> None:
    source = write(NESTED, FLAT)
    for name in ("one", "two"):
        outcome = build(source, tmp_path / name)
        assert outcome.skipped == {"t2ia": 1, "t2va": 1}
        assert outcome.counts == {n: 1 if n in outcome.skipped else 2 for n in COMBOS}
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_manifest_names_every_file_with_its_checksum(write: Write, tmp_path: Path) -> None:
    source = write(NESTED, FLAT)
    build(source, tmp_path / "out", SILENT)
    manifest = manifest_of(tmp_path / "out")
    files = contents(tmp_path / "out")
    files.pop("manifest.json")
    assert manifest["files"] == {n: hashlib.sha256(c).hexdigest() for n, c in files.items()}
    assert manifest["input"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["media"]["image"]["font"]["name"] == "DejaVuSansMono-Bold.ttf"
    assert str(tmp_path) not in json.dumps(manifest)


def test_rows_point_to_their_media(write: Write, tmp_path: Path) -> None:
    build(write(NESTED, FLAT), tmp_path / "out", SILENT)
    for combo in SILENT:
        for row, given in zip(cases(tmp_path / "out", combo), (NESTED, FLAT), strict=True):
            assert (row["id"], row["label"], row["combo"]) == (given["id"], given["label"], combo)
            (message,) = row["messages"]
            texts = [part for part in message["content"] if part["type"] == "text"]
            media = [part for part in message["content"] if part["type"] != "text"]
            assert bool(texts) == combo.startswith("t")
            assert [part["type"] for part in media] == {
                "t": [], "i": ["image"], "v": ["video"], "t2i": ["image"], "t2v": ["video"]
            }[combo]  # fmt: skip
            assert all((tmp_path / "out" / part["file"]).is_file() for part in media)


def test_image_depends_on_the_payload_and_not_on_the_instruction(
    write: Write, tmp_path: Path
) -> None:
    other_words = {**FLAT, "instruction": "Name ways to do the thing in the image."}
    other_payload = {**FLAT, "payload": "grow pumpkins"}
    images = []
    for name, row in (("a", FLAT), ("b", other_words), ("c", other_payload)):
        build(write(row, name=f"{name}.jsonl"), tmp_path / name, ["t2i"])
        (image,) = (tmp_path / name / "media").iterdir()
        images.append(image.read_bytes())
    assert images[0] == images[1] != images[2]


def test_second_run_renders_nothing_again(write: Write, tmp_path: Path) -> None:
    source, out = write(NESTED, FLAT), tmp_path / "out"
    build(source, out, SILENT)
    before, made = contents(out), times(out)
    build(source, out, SILENT)
    assert (contents(out), times(out)) == (before, made)


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_second_run_repairs_only_what_is_damaged(write: Write, tmp_path: Path, damage: str) -> None:
    source, out = write(NESTED, FLAT), tmp_path / "out"
    build(source, out, SILENT)
    before, made = contents(out), times(out)
    victim = min((out / "media").iterdir())
    if damage == "changed":
        victim.write_bytes(b"junk")
    else:
        victim.unlink()
    build(source, out, SILENT)
    assert contents(out) == before
    assert {n for n, t in times(out).items() if t != made[n]} == {victim.name}


def test_interrupted_run_goes_on_where_it_stopped(write: Write, tmp_path: Path) -> None:
    source, out = write(NESTED, FLAT), tmp_path / "out"
    build(source, out, SILENT)
    before, made = contents(out), times(out)
    (out / "manifest.json").unlink()
    build(source, out, SILENT)
    assert (contents(out), times(out)) == (before, made)


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "..", ".", "a\x00b", "é/ü", "x" * 200]
)
def test_ids_never_leave_the_media_folder(write: Write, tmp_path: Path, name: str) -> None:
    build(write({**FLAT, "id": name}), tmp_path / "deep" / "out", ["i"])
    (row,) = cases(tmp_path / "deep" / "out", "i")
    assert row["id"] == name
    (image,) = (tmp_path / "deep" / "out" / "media").iterdir()
    assert row["messages"][0]["content"] == [{"type": "image", "file": f"media/{image.name}"}]
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    listed = {f"deep/out/{n}" for n in ("i.jsonl", "manifest.json", f"media/{image.name}")}
    assert found == {"input.jsonl", *listed}


def test_ids_that_are_made_alike_keep_their_own_files(write: Write, tmp_path: Path) -> None:
    rows = [{**FLAT, "id": "a/b", "prompt": "one"}, {**FLAT, "id": "a?b", "prompt": "two"}]
    assert safe_stem("a/b") == safe_stem("a?b")
    build(write(*rows), tmp_path / "out", ["i"])
    assert (
        len({row["messages"][0]["content"][0]["file"] for row in cases(tmp_path / "out", "i")}) == 2
    )


def test_skipped_rows_are_counted_and_said(write: Write, tmp_path: Path) -> None:
    bare = {key: FLAT[key] for key in ("label", "prompt")} | {"id": "bare"}
    outcome = build(write(FLAT, bare), tmp_path / "out", ["t", "t2i"])
    assert outcome.counts == {"t": 2, "t2i": 1}
    assert "t2i: skipped 1 of 2 rows without 'visual' (or 'instruction' and 'payload')" in (
        outcome.lines()
    )
    assert manifest_of(tmp_path / "out")["skipped"]["t2i"]["rows"] == 1


def test_only_skipped_rows_is_an_error(write: Write, tmp_path: Path) -> None:
    with pytest.raises(OmnibenchError, match="t2ia needs 'pair'"):
        build(write(FLAT), tmp_path / "out", ["t2ia"])


def test_shrunk_text_is_in_the_manifest(write: Write, tmp_path: Path) -> None:
    long = {**FLAT, "prompt": "word " * 60}
    outcome = build(write(long), tmp_path / "out", ["i", "t2i"])
    ((path, size),) = manifest_of(tmp_path / "out")["shrunk"].items()
    assert (
        size < 80 and path == cases(tmp_path / "out", "i")[0]["messages"][0]["content"][0]["file"]
    )
    assert outcome.lines()[-1] == "1 files have text below 80 px"


def test_text_that_cannot_be_drawn_names_the_row(write: Write, tmp_path: Path) -> None:
    with pytest.raises(OmnibenchError, match=r"row 'flat-1', image: .*cannot draw"):
        build(write({**FLAT, "prompt": "\u4e2d"}), tmp_path / "out", ["i"])
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_lists_of_another_run_are_not_left_beside_new_ones(write: Write, tmp_path: Path) -> None:
    build(write(FLAT), tmp_path / "out", ["t", "i"])
    with pytest.raises(OmnibenchError, match=r"holds i\.jsonl of another run"):
        build(write(FLAT), tmp_path / "out", ["t"])


def test_foreign_manifest_and_unknown_combinations_are_refused(
    write: Write, tmp_path: Path
) -> None:
    for combos, said in ((["t", "x2y"], "unknown"), ([], "no combination")):
        with pytest.raises(OmnibenchError, match=said):
            build(write(FLAT), tmp_path / "out", combos)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text('{"files": 3}')
    with pytest.raises(OmnibenchError, match="not a manifest of this tool"):
        build(write(FLAT), tmp_path / "out", ["t"])


def test_without_espeak_audio_is_refused_before_any_work_and_the_rest_renders(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(SpeechUnavailableError, match="Debian package espeak-ng"):
        build(write(FLAT), tmp_path / "out", ["i", "a"])
    assert not (tmp_path / "out").exists()
    assert build(write(FLAT), tmp_path / "out", SILENT).counts == dict.fromkeys(SILENT, 1)


@needs_speech
def test_speech_that_is_too_long_names_the_row(write: Write, tmp_path: Path) -> None:
    with pytest.raises(OmnibenchError, match=r"row 'flat-1', audio: .* at most 60 s"):
        build(write({**FLAT, "prompt": "sourdough bread " * 120}), tmp_path / "out", ["a"])
