"""The block of MobileViT: convolutions for what is near, a transformer over patches for what is far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from search_space.blocks.base import Block
from search_space.branches import PassOn
from search_space.component import register
from search_space.errors import InputError
from search_space.layers import (
    ACTIVATION,
    BuildContext,
    Conv2d,
    Residual,
    TruncatedLinear,
    activation,
    conv_norm_act,
)
from search_space.rules import CHANNELS, KERNEL_SIZE, Depth, Integer, Number


class SelfAttention(nn.Module):
    """Multi-head self-attention over N tokens, [B, P, N, C] → the same shape. Vaswani et al. 2017, section 3.2."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = TruncatedLinear(channels, 3 * channels)
        self.project = TruncatedLinear(channels, channels)

    def extra_repr(self) -> str:
        """The number of heads."""
        return f"num_heads={self.num_heads}"

    def forward(self, x: Tensor) -> Tensor:
        places, tokens, channels = (int(size) for size in x.shape[1:])
        heads = self.qkv(x).reshape(-1, tokens, 3, self.num_heads, channels // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        projected: Tensor = self.project(mixed.transpose(1, 2).reshape(-1, places, tokens, channels))
        return projected


class OverPatches(nn.Module):
    """Unfold → inner → fold: [B, C, H, W] → the same shape.

    The image is cut into p×p patches. `inner` sees [B, p², N, C]: for each place in a patch, the pixels there of all N
    patches, so that a pixel attends to the pixels at its own place. An image that p does not divide is interpolated to
    the next size that it does divide, and back, as in the authors' code and timm.
    """

    def __init__(self, inner: nn.Module, patch_size: int) -> None:
        super().__init__()
        self.inner = inner
        self.patch_size = patch_size

    def extra_repr(self) -> str:
        """The patch size."""
        return f"patch_size={self.patch_size}"

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch_size
        # Plain numbers: PyTorch's ONNX exporter by tracing dies of a division by zero on sizes that it traces itself.
        channels, height, width = (int(size) for size in x.shape[1:])
        rows, columns = -(-height // p), -(-width // p)
        divides = (rows * p, columns * p) == (height, width)
        if not divides:
            x = F.interpolate(x, (rows * p, columns * p), mode="bilinear", align_corners=False)
        x = x.reshape(-1, channels, rows, p, columns, p).permute(0, 3, 5, 2, 4, 1)
        x = self.inner(x.reshape(-1, p * p, rows * columns, channels))
        x = x.reshape(-1, p, p, rows, columns, channels).permute(0, 5, 3, 1, 4, 2)
        x = x.reshape(-1, channels, rows * p, columns * p)
        return x if divides else F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


@register("mobilevit")
@dataclass(frozen=True, kw_only=True)
class MobileViT(Block):
    """Local k×k → 1×1 to `transformer_dim` → transformer over patches → 1×1 → fusion with the input, k×k.
    Mehta & Rastegari 2022, arXiv:2110.02178, figure 1 (b).

    The transformer has `transformer_depth` layers with `num_heads` heads, pre-norm, whose feed-forward part is
    `mlp_ratio` times as wide. The paper's block has no stride; with one, the local convolution has it, and its output,
    not the input, is what is fused.
    """

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    patch_size: Annotated[int, Integer(1, 64)] = 2
    transformer_dim: Annotated[int, CHANNELS] = 96
    transformer_depth: Annotated[int, Depth(1, 64)] = 2
    num_heads: Annotated[int, Integer(1, 64)] = 4
    mlp_ratio: Annotated[float, Number(0.25, 16)] = 2.0
    activation: Annotated[str, ACTIVATION] = "silu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transformer_dim % self.num_heads:
            rule = f"transformer_dim must be a multiple of num_heads, {self.num_heads}"
            remedy = "change one of them"
            raise InputError(rule, self.transformer_dim, field="transformer_dim", remedy=remedy)

    def width_multiple(self) -> int:
        return math.lcm(super().width_multiple(), self.num_heads)

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        k, act, dim = self.kernel_size, self.activation, self.transformer_dim
        local = conv_norm_act(in_channels, in_channels, k, context, stride=self.stride, act=act)
        transformer = [layer for _ in range(self.transformer_depth) for layer in self._transformer_layer(context)]
        far = [
            Conv2d(in_channels, dim, 1, bias=False),
            OverPatches(nn.Sequential(*transformer, nn.LayerNorm(dim)), self.patch_size),
            conv_norm_act(dim, self.out_channels, 1, context, act=act),
        ]
        fused = conv_norm_act(in_channels + self.out_channels, self.out_channels, k, context, act=act)
        if self.stride == 1:
            return nn.Sequential(PassOn(nn.Sequential(local, *far), kept=in_channels, begin=0), fused)
        return nn.Sequential(local, PassOn(nn.Sequential(*far), kept=in_channels, begin=0), fused)

    def _transformer_layer(self, context: BuildContext) -> list[nn.Module]:
        dim, hidden = self.transformer_dim, max(1, int(self.transformer_dim * self.mlp_ratio))
        attention = nn.Sequential(nn.LayerNorm(dim), SelfAttention(dim, self.num_heads))
        feed_forward = nn.Sequential(
            nn.LayerNorm(dim), TruncatedLinear(dim, hidden), activation(self.activation), TruncatedLinear(hidden, dim)
        )
        return [Residual(attention, context.drop_path), Residual(feed_forward, context.drop_path)]
