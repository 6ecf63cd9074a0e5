"""Logits come from the model itself, with what its family puts behind the output layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from refusal_steering.coefficient import LayerSteering
from refusal_steering.decoder_hooks import final_states, output_logits
from refusal_steering.prototypes import summarise
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# A family, what it does to its logits, and whether that leaves them linear in the states.
FAMILIES: list[tuple[str, dict[str, Any], bool]] = [
    ("qwen2", {}, True),
    ("llama", {}, True),
    ("granite", {"logits_scaling": 7.0}, True),
    ("granitemoe", {"logits_scaling": 3.0, "num_local_experts": 2, "num_experts_per_tok": 1}, True),
    ("cohere", {"logit_scale": 0.25}, True),
    ("cohere2", {"logit_scale": 4.0}, True),
    ("gemma2", {"final_logit_softcapping": 2.0}, False),
    ("gemma3_text", {"final_logit_softcapping": 1.5}, False),
    ("vaultgemma", {"final_logit_softcapping": 2.0}, False),
]
NAMES = [name for name, _, _ in FAMILIES]


def tiny(name: str, own: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = CONFIG_MAPPING[name](**SIZES, **own)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(("name", "own", "linear"), FAMILIES, ids=NAMES)
@torch.inference_mode()
def test_states_give_the_logits_that_the_model_gave(
    name: str, own: dict[str, Any], linear: bool
) -> None:
    model = tiny(name, own)
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    with final_states(model) as states:
        logits = model(input_ids=ids).logits
    found = output_logits(model, states[0])
    torch.testing.assert_close(found, logits.float(), rtol=1e-5, atol=1e-5)
    bare = model.get_output_embeddings()(states[0]).float()
    assert torch.allclose(bare, found, atol=1e-4) == (not own), "the family's own step is at work"
    half = output_logits(model, states[0] / 2)
    assert torch.allclose(half, found / 2, atol=1e-4) == linear
    torch.testing.assert_close(model(input_ids=ids).logits, logits)


@pytest.mark.parametrize(("name", "own", "linear"), FAMILIES, ids=NAMES)
@torch.inference_mode()
def test_a_blend_is_between_what_the_model_says_of_both(
    name: str, own: dict[str, Any], linear: bool
) -> None:
    model, states = tiny(name, own), torch.randn(1, 32, generator=torch.Generator().manual_seed(1))
    prototypes = summarise(states, output_logits(model, states), 0.3)
    silent = {0: LayerSteering.static(torch.eye(32)[0], 0.0)}
    spec = SteeringSpec(silent, prototypes, strength=0.0, blend=0.5)
    inputs = {"input_ids": torch.tensor([[3, 4, 5]])}
    (logprobs,) = greedy(model, inputs, 1, spec).logprobs
    plain = model(**inputs).logits[0, -1]
    expected = (plain + output_logits(model, states)[0]) / 2
    torch.testing.assert_close(logprobs, expected.log_softmax(-1), rtol=1e-4, atol=1e-4)
