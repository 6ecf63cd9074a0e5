"""One log format for us, uvicorn, vLLM and its processes; prompts and answers are never logged."""

from __future__ import annotations

import atexit
import json
import logging.config
import os
import tempfile
from pathlib import Path
from typing import Any

_CONFIG_PATH = "VLLM_LOGGING_CONFIG_PATH"
_FIELDS = "%(levelname)s %(asctime)s %(name)s"


def configure(log_format: str, level: str) -> None:
    """Set up logging in this process and, through the environment, in the engine's.

    A configuration that the operator names for vLLM stays vLLM's.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", level.upper())
    config = log_config(log_format, level)
    if _CONFIG_PATH not in os.environ:
        os.environ[_CONFIG_PATH] = str(_written(config))
    logging.config.dictConfig(config)


def log_config(log_format: str, level: str) -> dict[str, Any]:
    """The ``dictConfig`` of every logger, as JSON can carry it; libraries tell warnings only."""
    formatters: dict[str, Any] = {
        "text": {"format": f"{_FIELDS}: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": f"{_FIELDS} %(message)s %(processName)s",
            "rename_fields": {
                "levelname": "level",
                "asctime": "time",
                "name": "logger",
                "processName": "process",
            },
        },
    }
    handler = {"class": "logging.StreamHandler", "formatter": log_format}
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {"stderr": handler},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "refusal_server": logger,
            "refusal_steering": logger,
            "uvicorn": logger,
            "uvicorn.access": {**logger, "level": "WARNING"},
            "vllm": {**logger, "level": os.environ.get("VLLM_LOGGING_LEVEL", level.upper())},
        },
    }


def _written(config: dict[str, Any]) -> Path:
    """A file with the configuration; it lives as long as this process."""
    descriptor, name = tempfile.mkstemp(prefix="refusal-server-logs-", suffix=".json")
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(config, stream)
    path = Path(name)
    atexit.register(path.unlink, missing_ok=True)
    return path
