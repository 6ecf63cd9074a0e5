"""Models of vLLM whose real layers a CPU cannot run whole: their own forward passes, with stand-ins
for attention and experts.

What is under test is how a layer hands on its stream, which its forward pass alone decides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.layernorm import GemmaRMSNorm, RMSNorm

DEPTH, SIZE, STREAMS = 3, 64, 2
# What these models are published in.
DTYPE = torch.bfloat16


class MixingAttention(nn.Module):
    """Stands for attention and for feed-forward blocks."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        weight = torch.randn(SIZE, SIZE, generator=random) / SIZE**0.5
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, *given: Any, **named: Any) -> Tensor:
        rows = [one for one in (*given, *named.values()) if _is_rows(one)]
        return torch.tanh(rows[0] @ self.weight)


def _is_rows(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def hy_v4() -> nn.Module:
    """HY V4 without its parallel channels: the stream is the sum of both outputs."""
    from vllm.models.hy_v4.nvidia.model import HYV4DecoderLayer, HYV4Model

    layers = [_made(HYV4DecoderLayer, **_blocks(at), enable_ihc=False) for at in range(DEPTH)]
    return _model(HYV4Model, layers, enable_ihc=False)


def glm5_next(*, streams: bool) -> nn.Module:
    """GLM 5 Next: one stream and three outputs of no use, or several streams a token."""
    from vllm.model_executor.layers.mhc import MHCFusedPostPreOp, MHCPostOp, MHCPreOp
    from vllm.models.glm5next.common.model import Glm5NextDecoderLayer, Glm5NextModel

    numbers: dict[str, Any] = {
        "mhc": streams, "is_mtp_layer": False, "num_hidden_layers": DEPTH, "n": STREAMS,
        "is_sequence_parallel": False, "_mlp_is_moe": False, "rms_norm_eps": 1e-6, "hc_eps": 1e-6,
        "mhc_post_mult_value": 2.0, "mhc_sinkhorn_iterations": 3,
    }  # fmt: skip
    layers = [
        _made(Glm5NextDecoderLayer, **_blocks(at), **numbers, layer_idx=at) for at in range(DEPTH)
    ]
    for layer in layers if streams else ():
        layer.mhc_pre_op, layer.mhc_post_op = MHCPreOp(), MHCPostOp()
        layer.mhc_fused_post_pre_op = MHCFusedPostPreOp()
        for kind in ("attn", "ffn"):
            mixes = (2 + STREAMS) * STREAMS
            setattr(layer, f"hc_{kind}_fn", 0.1 * torch.randn(mixes, STREAMS * SIZE))
            setattr(layer, f"hc_{kind}_base", torch.zeros(mixes))
            setattr(layer, f"hc_{kind}_scale", torch.ones(3))
    numbers = {"is_sequence_parallel": False, "aux_hidden_state_layers": ()}
    return _model(Glm5NextModel, layers, _active_layers=layers, **numbers)


def kimi() -> nn.Module:
    """Kimi's layers without residual attention: the residual is the third of three outputs."""
    from vllm.models.kimi_k3.nvidia.model import KimiDecoderLayer, KimiLinearModel

    numbers: dict[str, Any] = {"use_attn_res": False, "use_sequence_parallel": False}
    layers = [_made(KimiDecoderLayer, **_blocks(at), **numbers) for at in range(DEPTH)]
    return _model(KimiLinearModel, layers, **numbers, aux_hidden_state_layers=())


def minimax_m3() -> nn.Module:
    """MiniMax M3: the sum over ranks of a layer's output is left to the next layer's norm."""
    from vllm.distributed import get_tensor_model_parallel_rank
    from vllm.models.minimax_m3.nvidia.model import MiniMaxM3DecoderLayer, MiniMaxM3Model

    rank = get_tensor_model_parallel_rank()
    layers = [
        _made(
            MiniMaxM3DecoderLayer,
            **_blocks(at, GemmaRMSNorm, seed=100 * rank),
            is_moe_layer=False,
            fuse_input_allreduce=at > 0,
        )
        for at in range(DEPTH)
    ]
    numbers: dict[str, Any] = {"fuse_final_norm_allreduce": True, "aux_hidden_state_layers": ()}
    return _model(MiniMaxM3Model, layers, GemmaRMSNorm, **numbers)


def refused_by_class(name: str) -> nn.Module:
    """Layers of a class that is refused, or that is made of one."""
    from vllm.model_executor.models.deepseek_v2 import DeepseekV2DecoderLayer
    from vllm.models.deepseek_v4.cpu.model import DeepseekV4DecoderLayer
    from vllm.models.qwen4_exp.nvidia.model import Qwen4ExpDecoderLayer

    class RenamedDecoderLayer(DeepseekV2DecoderLayer):  # type: ignore[misc]
        """As Dots 3 Note's layer is, whose module a CPU cannot import."""

    kinds = (DeepseekV4DecoderLayer, Qwen4ExpDecoderLayer, RenamedDecoderLayer)
    kind = next(one for one in kinds if one.__name__ == name)
    layers = [_made(kind, attn=MixingAttention()) for _ in range(DEPTH)]
    model: nn.Module = _made(nn.Module, layers=nn.ModuleList(layers))
    return model


def _blocks(at: int, norm: Any = RMSNorm, seed: int = 0) -> dict[str, nn.Module]:
    return {
        "self_attn": MixingAttention(seed + 2 * at),
        "mlp": MixingAttention(seed + 2 * at + 1),
        "input_layernorm": norm(SIZE, 1e-6),
        "post_attention_layernorm": norm(SIZE, 1e-6),
    }


def _model(
    kind: type[nn.Module], layers: list[Any], norm: Any = RMSNorm, **fields: Any
) -> nn.Module:
    model: nn.Module = _made(kind, layers=nn.ModuleList(layers), norm=norm(SIZE, 1e-6), **fields)
    for name, value in {"start_layer": 0, "end_layer": len(layers), "do_not_compile": True}.items():
        setattr(model, name, value)
    return model


def _made(kind: type[nn.Module], **fields: Any) -> Any:
    """An instance of a class of vLLM with these fields alone."""
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    for name, value in fields.items():
        setattr(made, name, value)
    return made
