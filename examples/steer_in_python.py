"""Steers a transformers model with a bundle, in Python and without a server.

    make demo-model
    .venv/bin/python examples/steer_in_python.py deploy/demo/bundles/omnisteer \\
        "$(.venv/bin/python deploy/local/demo_model.py --print-path)" "How do I bake bread?"

Each prompt is answered twice, as the model answers it and steered by the bundle, with the largest
coefficient that the prompt earned. One sequence at a time, by hooks: good for looking at what a
bundle does, too slow to serve.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer

from refusal_steering import (
    BundleError,
    Generated,
    SteeringBundle,
    SteeringError,
    SteeringSpec,
    __version__,
    greedy,
    load_bundle,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer every prompt with and without the bundle; 1 when the bundle is of no use."""
    options = _parse(arguments)
    try:
        bundle = load_bundle(options.bundle)
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype="auto").eval()
        config = model.config.get_text_config()
        bundle.check_model(config.hidden_size, config.num_hidden_layers)
    except BundleError as error:
        say(f"the bundle cannot be used: {error}")
        return 1
    say(f"refusal-steering {__version__}, {bundle.manifest.name}, {options.strength:g} times")
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    for prompt in options.prompts:
        say(f"\n{prompt}")
        for name, spec in (("as it is", None), ("steered", _spec(bundle, options.strength))):
            found = answer(model, tokenizer, prompt, options.max_tokens, spec)
            text = tokenizer.decode(found.tokens, skip_special_tokens=True)
            say(f"  {name:8}  {largest_coefficient(found):7.3f}  {text!r}")
    return 0


def answer(
    model: Any, tokenizer: Any, prompt: str, tokens: int, spec: SteeringSpec | None
) -> Generated:
    """A greedy answer to one user message; ``spec`` says how it is steered, if it is."""
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    return greedy(model, {"input_ids": inputs["input_ids"]}, tokens, spec)


def largest_coefficient(found: Generated) -> float:
    """What the steered rows earned, at most, in units of the residual stream."""
    earned = [value for rows in found.coefficients.values() for value in rows.values()]
    return max(earned, default=0.0)


def _spec(bundle: SteeringBundle, strength: float) -> SteeringSpec:
    return SteeringSpec.of(bundle, strength=strength)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="a bundle's folder")
    parser.add_argument("model", type=Path, help="folder of the model that it was made for")
    parser.add_argument("prompts", nargs="+", metavar="prompt")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--max-tokens", type=int, default=24)
    return parser.parse_args(arguments)


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SteeringError as error:
        sys.exit(f"error: {error}")
