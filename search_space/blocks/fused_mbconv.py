"""Fused-MBConv: the expansion and the depthwise convolution of MBConv fused into one k×k convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.inverted_residual import InvertedResidual
from search_space.component import register
from search_space.layers import ACTIVATION, BuildContext, conv_norm_act


@register("fused_mbconv")
@dataclass(frozen=True, kw_only=True)
class FusedMBConv(InvertedResidual):
    """k×k expansion → (squeeze-excite) → 1×1 linear projection.

    Tan & Le 2021 (EfficientNetV2), figure 2. With `expand_ratio` 1 the block is one k×k convolution with activation,
    as in the authors' code, unless `expanded_channels` are given; squeeze-excite then stands on that convolution's
    output.
    """

    activation: Annotated[str, ACTIVATION] = "silu"

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        wide = self.wide(in_channels) if self.expands else self.out_channels
        project = [conv_norm_act(wide, self.out_channels, 1, context)] if self.expands else []
        return [*self.spatial(in_channels, wide, context), *self.squeeze_excite(in_channels, wide), *project]
