"""What vLLM would tell of every request alike is told once."""

from __future__ import annotations

import logging

# Says of each audio that it is read by the second of two libraries, which is no fault.
TALKERS = ("vllm.multimodal.media.audio",)


class _Once(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether nothing was told in these words, whatever was put into them."""
        words = str(record.msg)
        new = words not in self._told
        self._told.add(words)
        return new or record.levelno >= logging.ERROR


def tell_once() -> None:
    """Have vLLM's repeated warnings told once in this process; idempotent."""
    for name in TALKERS:
        talker = logging.getLogger(name)
        if not any(isinstance(one, _Once) for one in talker.filters):
            talker.addFilter(_Once())
