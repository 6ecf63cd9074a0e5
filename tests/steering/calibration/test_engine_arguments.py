"""Arguments of an offline engine: the command line wins over a server's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from refusal_steering.calibration.engine_arguments import engine_arguments

DEMO = Path(__file__).resolve().parents[3] / "deploy" / "demo" / "server.yaml"


def test_media_are_read_as_the_server_reads_them() -> None:
    found = engine_arguments("{}", DEMO)
    assert found["media_io_kwargs"] == {"video": {"max_frames": 16}}
    assert {"model", "max_num_seqs", "kv_cache_memory_bytes"}.isdisjoint(found)


def test_the_command_line_wins() -> None:
    found = engine_arguments('{"media_io_kwargs": {}, "seed": 3}', DEMO)
    assert found["media_io_kwargs"] == {}
    assert found["seed"] == 3
    assert engine_arguments("{}") == {}


@pytest.mark.parametrize("given", ["{", "[]", "3"])
def test_what_is_no_object_is_refused(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="JSON"):
        engine_arguments(given)


@pytest.mark.parametrize("text", ["server: {}", "engine: 3", "engine: [", "- 1"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    for name in ("c.yaml", "missing.yaml"):
        with pytest.raises(typer.BadParameter, match="not a server's configuration"):
            engine_arguments("{}", tmp_path / name)
