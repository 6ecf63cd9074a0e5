"""Model families: a tiny configuration of each, and where its residual stream must be found.

Every tower has as many layers as the language model, so that a list's length tells nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LAYERS = 3
HEAD, HIDDEN = 32, 64
TEXT: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "max_position_embeddings": 256,
    # Large enough that every layer matters to the stream.
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}
_QWEN_TEXT = {**TEXT, "rope_parameters": _ROPE}
_SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
_QWEN_VISION = {
    "depth": LAYERS,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "out_hidden_size": HIDDEN,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "fullatt_block_indexes": [1],
}
_QWEN2_VISION = {
    **{name: _QWEN_VISION[name] for name in ("depth", "num_heads", "patch_size")},
    "embed_dim": 32,
    "hidden_size": HIDDEN,
    "mlp_ratio": 2,
}
_QWEN3_VISION = {
    **{name: value for name, value in _QWEN_VISION.items() if name != "fullatt_block_indexes"},
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}
_QWEN3_OMNI_VISION = {**_QWEN3_VISION, "image_size": 56, "apply_vit_abs_pos_embed": True}
_WHISPER = {
    "d_model": 32,
    "encoder_layers": LAYERS,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "num_mel_bins": 80,
}
_MINICPM = {
    **TEXT,
    # The resampler has one head for each 128 units.
    "hidden_size": 128,
    "num_attention_heads": 4,
    "version": "2.6",
    "query_num": 4,
    "drop_vision_last_layer": False,
    "vision_config": _SIGLIP,
    "audio_config": _WHISPER,
    "audio_pool_step": 2,
}
_WITHOUT_HEAD = {name: value for name, value in TEXT.items() if name != "head_dim"}
_GEMMA4 = {
    **TEXT,
    "global_head_dim": HEAD,
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "layer_types": ["full_attention"] * LAYERS,
}
_MOE = {
    **TEXT,
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
_GPT_OSS = {**TEXT, "num_local_experts": 4, "num_experts_per_tok": 2}
_BERT = {name: value for name, value in _WITHOUT_HEAD.items() if name != "num_key_value_heads"}
_GEMMA3N = {
    **TEXT,
    "vocab_size_per_layer_input": 160,
    "hidden_size_per_layer_input": 32,
    "laurel_rank": 8,
    "altup_num_inputs": 2,
    "activation_sparsity_pattern": [0.0] * LAYERS,
    "layer_types": ["full_attention"] * LAYERS,
}


@dataclass(frozen=True, eq=False)
class Family:
    """A vLLM architecture with the transformers configuration class and settings to build it.

    ``layer`` is the class of its decoder layers, ``split`` whether they keep their residual
    apart, ``decoys`` are other lists of the same length that hold towers.
    """

    architecture: str
    config: str
    settings: dict[str, Any]
    layer: str
    split: bool = True
    path: str = "model.layers"
    decoys: tuple[str, ...] = ()


def _with_towers(
    architecture: str, config: str, settings: dict[str, Any], layer: str, *decoys: str
) -> Family:
    return Family(
        architecture, config, settings, layer, path="language_model.model.layers", decoys=decoys
    )


_CLIP_TOWER = "vision_tower.vision_model.encoder.layers"

TEXT_FAMILIES = (
    Family("LlamaForCausalLM", "LlamaConfig", TEXT, "LlamaDecoderLayer"),
    Family("Qwen2ForCausalLM", "Qwen2Config", TEXT, "Qwen2DecoderLayer"),
    Family("Qwen3ForCausalLM", "Qwen3Config", TEXT, "Qwen3DecoderLayer"),
    Family("Gemma3ForCausalLM", "Gemma3TextConfig", TEXT, "Gemma3DecoderLayer"),
    Family("MistralForCausalLM", "MistralConfig", TEXT, "MistralDecoderLayer"),
    Family("Phi3ForCausalLM", "Phi3Config", TEXT, "LlamaDecoderLayer"),
    Family("CohereForCausalLM", "CohereConfig", TEXT, "CohereDecoderLayer", split=False),
    Family("GraniteForCausalLM", "GraniteConfig", TEXT, "GraniteDecoderLayer", split=False),
    Family("Exaone4ForCausalLM", "Exaone4Config", TEXT, "Exaone4DecoderLayer", split=False),
    Family("StableLmForCausalLM", "StableLmConfig", TEXT, "StablelmDecoderLayer", split=False),
    # vLLM's Transformers backend: the layers are those of transformers.
    Family("Olmo2ForCausalLM", "Olmo2Config", _WITHOUT_HEAD, "Olmo2DecoderLayer", split=False),
    # The same layers stand in a second list.
    Family("Gemma4ForCausalLM", "Gemma4TextConfig", _GEMMA4, "Gemma4DecoderLayer", split=False),
    Family("Qwen3MoeForCausalLM", "Qwen3MoeConfig", _MOE, "Qwen3MoeDecoderLayer"),
)
GPT_OSS = Family("GptOssForCausalLM", "GptOssConfig", _GPT_OSS, "TransformerBlock")
QWEN3_VL = _with_towers(
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLConfig",
    {"text_config": _QWEN_TEXT, "vision_config": _QWEN3_VISION},
    "Qwen3VLDecoderLayer",
    "visual.blocks",
)
OMNI_FAMILIES = (
    _with_towers(
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {"text_config": TEXT, "vision_config": _SIGLIP, "mm_tokens_per_image": 4},
        "Gemma3DecoderLayer",
        _CLIP_TOWER,
    ),
    _with_towers(
        "Qwen2VLForConditionalGeneration",
        "Qwen2VLConfig",
        {"text_config": _QWEN_TEXT, "vision_config": _QWEN2_VISION},
        "Qwen2DecoderLayer",
        "visual.blocks",
    ),
    _with_towers(
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5_VLConfig",
        {"text_config": _QWEN_TEXT, "vision_config": _QWEN_VISION},
        "Qwen2DecoderLayer",
        "visual.blocks",
    ),
    QWEN3_VL,
    _with_towers(
        "Qwen2_5OmniModel",
        "Qwen2_5OmniConfig",
        {
            "thinker_config": {
                "text_config": _QWEN_TEXT,
                "vision_config": _QWEN_VISION,
                "audio_config": {**_WHISPER, "output_dim": HIDDEN},
            }
        },
        "Qwen2DecoderLayer",
        "audio_tower.layers",
        "visual.blocks",
    ),
    _with_towers(
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        {
            "text_config": {**TEXT, "model_type": "llama"},
            "vision_config": {**_SIGLIP, "model_type": "clip_vision_model"},
            # The default leaves out the tower's last layer.
            "vision_feature_layer": -1,
        },
        "LlamaDecoderLayer",
        _CLIP_TOWER,
    ),
    _with_towers(
        "InternVLForConditionalGeneration",
        "InternVLConfig",
        {
            "text_config": {**TEXT, "model_type": "qwen2"},
            "vision_config": {**_SIGLIP, "image_size": [56, 56], "patch_size": [14, 14]},
        },
        "Qwen2DecoderLayer",
        "vision_tower.encoder.layer",
    ),
    _with_towers(
        "Qwen3OmniMoeForConditionalGeneration",
        "Qwen3OmniMoeConfig",
        {
            "thinker_config": {
                "text_config": {**_MOE, "rope_parameters": _ROPE, "tie_word_embeddings": False},
                "vision_config": _QWEN3_OMNI_VISION,
                "audio_config": {**_WHISPER, "output_dim": HIDDEN},
            }
        },
        "Qwen3MoeDecoderLayer",
        "audio_tower.layers",
        "visual.blocks",
    ),
    Family(
        "MiniCPMV", "MiniCPMConfig", _MINICPM, "Qwen2DecoderLayer",
        path="llm.model.layers", decoys=("vpm.encoder.layers",),
    ),
    Family(
        "MiniCPMO", "MiniCPMConfig", _MINICPM, "Qwen2DecoderLayer",
        path="llm.model.layers", decoys=("vpm.encoder.layers", "apm.layers"),
    ),
)  # fmt: skip
REFUSED = (
    Family("Gemma3nForCausalLM", "Gemma3nTextConfig", {**_GEMMA3N, "num_kv_shared_layers": 0}, ""),
    Family("BertModel", "BertConfig", _BERT, ""),
)
FOUND = (*TEXT_FAMILIES, GPT_OSS, *OMNI_FAMILIES)
# Each kind of decoder layer above, once; only GPT-OSS, whose attention has sinks, is left out.
MEASURED = (*TEXT_FAMILIES, QWEN3_VL)
