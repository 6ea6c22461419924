"""Fused-MBConv: the expansion and the depthwise convolution of MBConv fused into one k×k convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.inverted_residual import InvertedResidual
from search_space.component import register
from search_space.layers import ACTIVATION, BuildContext, conv_norm_act, round_channels


@register("fused_mbconv")
@dataclass(frozen=True, kw_only=True)
class FusedMBConv(InvertedResidual):
    """k×k expansion → (squeeze-excite) → 1×1 linear projection.

    Tan & Le 2021 (EfficientNetV2), figure 2. With `expand_ratio` 1 the block is one k×k convolution with activation,
    as in the authors' code; squeeze-excite then stands on that convolution's output.
    """

    activation: Annotated[str, ACTIVATION] = "silu"

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        fused_to_one = self.expand_ratio == 1
        wide = self.out_channels if fused_to_one else round_channels(in_channels * self.expand_ratio)
        expand = conv_norm_act(in_channels, wide, self.kernel_size, context, stride=self.stride, act=self.activation)
        project = [] if fused_to_one else [conv_norm_act(wide, self.out_channels, 1, context)]
        return [expand, *self.squeeze_excite(in_channels, wide), *project]
