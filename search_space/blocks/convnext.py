"""The block of ConvNeXt: depthwise convolution, layer norm and an inverted bottleneck of linear layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from search_space.blocks.base import Block
from search_space.component import register
from search_space.layers import (
    ACTIVATION,
    BuildContext,
    LayerNorm2d,
    Permute,
    Residual,
    TruncatedConv2d,
    TruncatedLinear,
    activation,
)
from search_space.rules import EXPAND_RATIO, KERNEL_SIZE, Number

_EPS = 1e-6
_LAYER_SCALE = 1e-6


class LayerScale(nn.Module):
    """A factor for each channel, [..., C] → the same shape. Touvron et al. 2021, arXiv:2103.17239, section 2."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), initial))

    def extra_repr(self) -> str:
        """The number of channels."""
        return str(len(self.scale))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@register("convnext")
@dataclass(frozen=True, kw_only=True)
class ConvNeXt(Block):
    """x + layer scale · (depthwise k×k → layer norm → 1×1 expansion → activation → 1×1). Liu et al. 2022,
    arXiv:2201.03545, figure 4.

    Where stride or channels change, ConvNeXt's separate downsampling stands in front: layer norm, then a convolution
    whose kernel is the stride, without padding; sizes are rounded down. `layer_scale` is the factor's initial value, 0
    leaves it out. Norms are layer norms with eps 1e-6, whatever the network's batch norms have.
    """

    kernel_size: Annotated[int, KERNEL_SIZE] = 7
    expand_ratio: Annotated[float, EXPAND_RATIO] = 4.0
    layer_scale: Annotated[float, Number(0, 1)] = _LAYER_SCALE
    activation: Annotated[str, ACTIVATION] = "gelu"

    def at_inference(self) -> ConvNeXt:
        return replace(self, layer_scale=_LAYER_SCALE) if self.layer_scale else self

    def out_size(self, size: int) -> int:
        return size // self.stride

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        channels, hidden = self.out_channels, max(1, round(self.out_channels * self.expand_ratio))
        downsampling: list[nn.Module] = []
        if self.stride != 1 or in_channels != channels:
            resized = TruncatedConv2d(in_channels, channels, self.stride, self.stride)
            downsampling = [LayerNorm2d(in_channels, eps=_EPS), resized]
        k = self.kernel_size
        branch = nn.Sequential(
            TruncatedConv2d(channels, channels, k, padding=k // 2, groups=channels),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=_EPS),
            TruncatedLinear(channels, hidden),
            activation(self.activation),
            TruncatedLinear(hidden, channels),
            *([LayerScale(channels, self.layer_scale)] if self.layer_scale else []),
            Permute(0, 3, 1, 2),
        )
        return nn.Sequential(*downsampling, Residual(branch, context.drop_path))
