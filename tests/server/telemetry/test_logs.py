"""Every line of every logger has one format, also in the engine's processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap

import pytest

from tests.server.fixtures.live import environment

LOGGERS = ("refusal_server.run", "refusal_steering.x", "uvicorn.error", "vllm.engine", "library.x")
OURS = """
    import logging, os, subprocess, sys
    from refusal_server.telemetry import logs
    logs.configure({format!r}, "info")
    for name in {loggers!r}:
        logging.getLogger(name).warning("it %s", "speaks")
    logging.getLogger("library.x").info("it chatters")
    sys.stderr.flush()
    subprocess.run([sys.executable, "-c", {engine!r}], check=True)
"""
# As vLLM does it in each of its processes, which are started anew.
ENGINE = """
import json, logging.config, os
with open(os.environ["VLLM_LOGGING_CONFIG_PATH"]) as file:
    logging.config.dictConfig(json.load(file))
logging.getLogger("vllm.worker").warning("it %s", "speaks")
"""


def said(log_format: str, **variables: str) -> list[str]:
    script = textwrap.dedent(OURS).format(format=log_format, loggers=LOGGERS, engine=ENGINE)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(VLLM_LOGGING_LEVEL="INFO", **variables),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def test_json_is_one_object_a_line_with_the_same_fields() -> None:
    lines = [json.loads(line) for line in said("json")]
    assert [line["logger"] for line in lines] == [*LOGGERS, "vllm.worker"]
    for line in lines:
        assert set(line) == {"level", "time", "logger", "message", "process"}
        assert (line["level"], line["message"]) == ("WARNING", "it speaks")


def test_text_has_one_form() -> None:
    lines = said("text")
    assert len(lines) == len(LOGGERS) + 1
    for line in lines:
        assert re.fullmatch(r"WARNING [\d-]+ [\d:,]+ [\w.]+: it speaks", line), line


def test_a_configuration_of_the_operators_for_vllm_stays() -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        said("json", VLLM_LOGGING_CONFIG_PATH="/nowhere/of/mine.json")
    assert "/nowhere/of/mine.json" in failed.value.stderr
