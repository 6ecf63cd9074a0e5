"""All families: those that are tried, and those that cannot be."""

from __future__ import annotations

from tests.families.gemma import GEMMA
from tests.families.qwen import QWEN
from tests.families.text_models import TEXT_MODELS
from tests.families.vision_models import VISION_MODELS

FAMILIES = (*VISION_MODELS, *GEMMA, *QWEN, *TEXT_MODELS)
# Families without a tiny checkpoint, with the reason.
NOT_TRIED: dict[str, str] = {
    "MiniCPM-V and MiniCPM-o": "layers found; their processors are code of published checkpoints",
    "Qwen3.5": "a tiny checkpoint loads; a build with its linear attention had not ended after "
    "four minutes on a CPU without AVX-512",
    "Molmo 2, Phi-4-multimodal": "their processors are code of published checkpoints",
}
# Families that vLLM has no class for, or whose layers cannot be steered.
NOT_IN_VLLM: dict[str, str] = {
    "Baichuan-Omni-1.5": "vLLM has no class for it (`OmniForCausalLM`)",
    "Qwen-VL-Chat": "vLLM has no class for it (`QWenLMHeadModel` with a visual part)",
    "Whisper, T5 and other encoder-decoders": "steering needs decoder layers alone",
    "Gemma 3n, DeepSeek-V2 to V4, Dots 3 Note, Qwen4-Exp": "they have no plain residual stream",
    "BERT and other encoders": "they generate no text",
}
