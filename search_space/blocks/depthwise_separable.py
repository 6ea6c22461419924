"""Depthwise-separable convolution of MobileNetV1: depthwise k×k → 1×1, each with batch norm and activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.base import Block
from search_space.component import register
from search_space.foreign import TimmBlock, refuse_other_fields
from search_space.layers import ACTIVATION, BuildContext, conv_norm_act
from search_space.rules import KERNEL_SIZE


@register("depthwise_separable")
@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable(Block):
    """Howard et al. 2017, figure 3 (right); no shortcut. MnasNet's SepConv, whose 1×1 is linear, is `mbconv`
    with `expand_ratio` 1."""

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    activation: Annotated[str, ACTIVATION] = "relu"

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        depthwise = conv_norm_act(
            in_channels,
            in_channels,
            self.kernel_size,
            context,
            stride=self.stride,
            groups=in_channels,
            act=self.activation,
        )
        pointwise = conv_norm_act(in_channels, self.out_channels, 1, context, act=self.activation)
        return nn.Sequential(depthwise, pointwise)

    def timm_block(self, in_channels: int) -> TimmBlock:
        refuse_other_fields("timm", self, ("kernel_size", "activation"))
        return TimmBlock("dsa", self.kernel_size, self.activation)
