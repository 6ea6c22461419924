"""Depthwise-separable convolution of MobileNetV1: depthwise k×k → 1×1, each with batch norm and activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.base import Block
from search_space.component import added, register
from search_space.foreign import TimmBlock, refuse_other_fields
from search_space.layers import (
    ACTIVATION,
    PADDING,
    SE_VARIANT,
    SE_VARIANTS,
    BuildContext,
    conv_norm_act,
    squeeze_excite,
)
from search_space.rules import CHANNELS_OR_NONE, KERNEL_SIZE, RATIO


@register("depthwise_separable")
@dataclass(frozen=True, kw_only=True)
class DepthwiseSeparable(Block):
    """Howard et al. 2017, figure 3 (right); no shortcut. MnasNet's SepConv, whose 1×1 is linear, is `mbconv`
    with `expand_ratio` 1. LCNet (Cui et al. 2021) has squeeze-excite between the two, with the fields of `mbconv`."""

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    activation: Annotated[str, ACTIVATION] = "relu"
    padding: Annotated[str, PADDING] = added("symmetric")
    se_ratio: Annotated[float, RATIO] = added(0.0)
    se_variant: Annotated[str, SE_VARIANT] = added(SE_VARIANTS[0])
    se_channels: Annotated[int, CHANNELS_OR_NONE] = added(0)

    def unused_fields(self) -> tuple[str, ...]:
        unused = ["padding"] if self.stride == 1 else []
        if self.se_channels:
            unused.append("se_ratio")
        elif not self.se_ratio:
            unused.append("se_variant")
        return tuple(unused)

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        depthwise = conv_norm_act(
            in_channels,
            in_channels,
            self.kernel_size,
            context,
            stride=self.stride,
            groups=in_channels,
            act=self.activation,
            padding=self.padding,
        )
        pointwise = conv_norm_act(in_channels, self.out_channels, 1, context, act=self.activation)
        if not self.se_ratio and not self.se_channels:
            return nn.Sequential(depthwise, pointwise)
        attention = squeeze_excite(
            self.se_variant,
            block_in=in_channels,
            channels=in_channels,
            ratio=self.se_ratio,
            act=self.activation,
            squeeze_channels=self.se_channels,
        )
        return nn.Sequential(depthwise, attention, pointwise)

    def timm_block(self, in_channels: int) -> TimmBlock:
        refuse_other_fields("timm", self, ("kernel_size", "activation"))
        return TimmBlock("dsa", self.kernel_size, self.activation)
