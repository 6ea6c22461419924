"""Identity: the operation by which a search makes networks shallower."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from search_space.blocks.base import Block
from search_space.component import register
from search_space.layers import BuildContext, conv_norm_act


@register("identity")
@dataclass(frozen=True, kw_only=True)
class Identity(Block):
    """Nothing at all where the shape stays; else a 1×1 convolution with the stride → batch norm, no activation.

    As in the code of NAS-Bench-Macro (Su et al. 2021, arXiv:2103.11922). FBNet and ProxylessNAS have the first kind.
    """

    def does_nothing(self, in_channels: int) -> bool:
        return self.stride == 1 and self.out_channels == in_channels

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        if self.does_nothing(in_channels):
            return nn.Identity()
        return conv_norm_act(in_channels, self.out_channels, 1, context, stride=self.stride)
