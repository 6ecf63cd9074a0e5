"""The likelihood of an answer after cached prompts is that of one full pass of the reference."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from refusal_steering.bundle import Window
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.surprise import answer_ids, prime, surprise
from refusal_steering.reference import ReferenceSteering, steered
from refusal_steering.spec import SteeringSpec
from tests.steering.chat_tokenizer import END, SPECIAL, ChatTokenizer

COEFFICIENT = 3.0


@pytest.mark.parametrize("dose_limit", [None, 0.05])
def test_surprise_equals_the_reference(target: CalibrationModel, dose_limit: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    units = {at: torch.randn(32, generator=generator) for at in (1, 2)}
    layers = {at: LayerSteering.static(u / u.norm(), COEFFICIENT) for at, u in units.items()}
    spec = SteeringSpec.of_parts(layers, Window(decode_tokens=1), dose_limit=dose_limit)
    answer, prompt = answer_ids(target, "no never"), "one two three"
    with torch.no_grad():
        primed = prime(target, next(target.batches([prompt], 1)))
        found = surprise(target, primed, answer, spec)
    ids = target.encode(prompt)
    state = ReferenceSteering(spec, len(ids))
    with torch.no_grad(), steered(target.decoder_layers, state):
        full = torch.tensor([[*ids, *answer[:-1].tolist()]])
        logits = target.model(full).logits[0, len(ids) - 1 :]
    expected = torch.nn.functional.cross_entropy(logits, answer)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    used = [value for of_layer in state.coefficients.values() for value in of_layer.values()]
    assert len(used) == 4 and (min(used) < COEFFICIENT) == (dose_limit is not None)


def test_a_refusal_ends_with_what_ends_a_turn_and_not_with_the_end_of_text() -> None:
    """Gemma's answers end with a token of its own; its tokenizer names another."""
    tokenizer = ChatTokenizer()
    configured = SimpleNamespace(eos_token_id=[tokenizer.eos_token_id, SPECIAL[END]])
    target = CalibrationModel(SimpleNamespace(generation_config=configured), tokenizer)
    *words, end = answer_ids(target, "no never").tolist()
    assert words == tokenizer("no never")["input_ids"]
    assert end == SPECIAL[END] != tokenizer.eos_token_id
