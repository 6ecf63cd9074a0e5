"""One log format for us, uvicorn and vLLM; prompts and answers are never logged."""

from __future__ import annotations

import logging.config
import os
from typing import Any


def configure(log_format: str, level: str) -> None:
    """Set up logging in this process and, through the environment, in the engine's."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", level.upper())
    logging.config.dictConfig(log_config(log_format, level))


def log_config(log_format: str, level: str) -> dict[str, Any]:
    """The ``dictConfig`` of our own and uvicorn's loggers."""
    formatters: dict[str, Any] = {
        "text": {"format": "%(levelname)s %(asctime)s %(name)s: %(message)s"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "%(levelname)s %(asctime)s %(name)s %(message)s",
        },
    }
    handler = {"class": "logging.StreamHandler", "formatter": log_format}
    logger = {"handlers": ["stderr"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {"stderr": handler},
        "loggers": {
            "refusal_server": logger,
            "refusal_steering": logger,
            "uvicorn": logger,
            "uvicorn.access": {**logger, "level": "WARNING"},
        },
    }
