"""The ways in which a judge grades; what each means is in :mod:`.rubrics`."""

from __future__ import annotations

from typing import Literal

RubricName = Literal["three-way", "answer-only", "holisafe", "video-safetybench", "mm-vet"]
