"""The tiny random model with a tokenizer that knows turns."""

from __future__ import annotations

import pytest

from refusal_steering.calibration.model import CalibrationModel
from tests.steering.chat_tokenizer import ChatTokenizer


@pytest.fixture(scope="package")
def chat(target: CalibrationModel) -> CalibrationModel:
    return CalibrationModel(target.model, ChatTokenizer())
