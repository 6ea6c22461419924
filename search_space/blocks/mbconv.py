"""MBConv, the inverted residual with a linear bottleneck, with optional squeeze-excite."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from search_space.blocks.inverted_residual import InvertedResidual
from search_space.component import register
from search_space.layers import BuildContext, conv_norm_act, round_channels


@register("mbconv")
@dataclass(frozen=True, kw_only=True)
class MBConv(InvertedResidual):
    """1×1 expansion → depthwise k×k → (squeeze-excite) → 1×1 linear projection.

    Sandler et al. 2018 (MobileNetV2), table 1; squeeze-excite as in Tan et al. 2019 (MnasNet) and Howard et al. 2019
    (MobileNetV3). The expansion is left out at `expand_ratio` 1.
    """

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        layers: list[nn.Module] = []
        wide = in_channels
        if self.expand_ratio != 1:
            wide = round_channels(in_channels * self.expand_ratio)
            layers.append(conv_norm_act(in_channels, wide, 1, context, act=self.activation))
        depthwise = conv_norm_act(
            wide, wide, self.kernel_size, context, stride=self.stride, groups=wide, act=self.activation
        )
        project = conv_norm_act(wide, self.out_channels, 1, context)
        return [*layers, depthwise, *self.squeeze_excite(in_channels, wide), project]
