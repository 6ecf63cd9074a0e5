"""Arguments of an offline engine: the command line wins over a server's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml

from refusal_steering.calibration.engine_arguments import engine_arguments, served_settings

DEMO = Path(__file__).resolve().parents[3] / "deploy" / "demo" / "server.yaml"


def test_media_are_read_as_the_server_reads_them() -> None:
    found = engine_arguments("{}", DEMO)
    engine = yaml.safe_load(DEMO.read_text())["engine"]
    assert found["media_io_kwargs"] == engine["media_io_kwargs"] != {}
    assert {"model", "max_num_seqs", "kv_cache_memory_bytes"}.isdisjoint(found)


def test_the_command_line_wins() -> None:
    found = engine_arguments('{"media_io_kwargs": {}, "seed": 3}', DEMO)
    assert found["media_io_kwargs"] == {}
    assert found["seed"] == 3
    assert engine_arguments("{}") == {}


def test_an_engine_is_set_up_as_the_server_is(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    (tmp_path / "c.yaml").write_text(
        "engine:\n  model: x\n  max-model-len: 512\n  trust_remote_code: true\n"
        "  hf_overrides: {a: 1}\n  tensor_parallel_size: 2\n  chat_template: mine.jinja\n"
        "  chat_template_content_format: openai\n  port: 3\n"
        "  default_chat_template_kwargs: {enable_thinking: true}\n"
    )
    found = served_settings('{"seed": 3}', tmp_path / "c.yaml", 4096)
    assert found.engine == {
        "max_model_len": 512,
        "trust_remote_code": True,
        "hf_overrides": {"a": 1},
        "tensor_parallel_size": 2,
        "seed": 3,
    }
    assert found.template == str(tmp_path / "mine.jinja")
    assert found.content_format == "openai"
    assert found.template_arguments == {"enable_thinking": True, "thinking": False}
    assert served_settings('{"max_model_len": 64}', DEMO, 9).engine["max_model_len"] == 64
    assert served_settings("{}", None, 77).engine == {"max_model_len": 77}


def test_a_variable_turns_a_flag_on_and_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("engine:\n  trust_remote_code: ${TRUST:-false}\n")
    assert engine_arguments("{}", path) == {"trust_remote_code": False}
    monkeypatch.setenv("TRUST", "True")
    assert engine_arguments("{}", path) == {"trust_remote_code": True}


def test_variables_are_replaced_as_the_server_replaces_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", "float32")
    monkeypatch.delenv("OTHER", raising=False)
    text = "engine: {dtype: '${MINE}', revision: '${OTHER:-main}', tokenizer: 'a${OTHER}b'}"
    (tmp_path / "c.yaml").write_text(text)
    found = engine_arguments("{}", tmp_path / "c.yaml")
    assert found == {"dtype": "float32", "revision": "main", "tokenizer": "ab"}


@pytest.mark.parametrize("given", ["{", "[]", "3"])
def test_what_is_no_object_is_refused(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="JSON"):
        engine_arguments(given)


@pytest.mark.parametrize("text", ["", "server: {}", "engine: 3", "engine: [", "- 1"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    for name in ("c.yaml", "missing.yaml"):
        with pytest.raises(typer.BadParameter, match="not a server's configuration"):
            engine_arguments("{}", tmp_path / name)


def test_a_configuration_that_holds_itself_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("engine: &again [*again]\n")
    with pytest.raises(typer.BadParameter, match="is not a server's configuration"):
        engine_arguments("{}", path)
