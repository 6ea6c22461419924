"""The unit of ShuffleNetV2: half of the channels pass by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.base import Block
from search_space.blocks.channel_shuffle import ChannelShuffle
from search_space.branches import Concat, PassOn
from search_space.component import register
from search_space.errors import InputError
from search_space.layers import ACTIVATION, BuildContext, conv_norm_act
from search_space.rules import KERNEL_SIZE


@register("shufflenetv2")
@dataclass(frozen=True, kw_only=True)
class ShuffleNetV2(Block):
    """Channel split → 1×1 → depthwise k×k → 1×1 on one half → concatenation → shuffle. Ma et al. 2018,
    arXiv:1807.11164, figure 3 (c).

    Where stride or channels change (d), both halves of the output come from the whole input: one as above, the other by
    a depthwise k×k convolution → 1×1. There is no sum, hence no stochastic depth. `out_channels` must be even.
    """

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    activation: Annotated[str, ACTIVATION] = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out_channels % 2:
            remedy = f"use {self.out_channels - 1 or 2} or {self.out_channels + 1}"
            raise InputError(
                f"out_channels of {self.type} must be even", self.out_channels, field="out_channels", remedy=remedy
            )

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        half = self.out_channels // 2
        if self.stride == 1 and in_channels == self.out_channels:
            joined: nn.Module = PassOn(self._branch(half, context), kept=half, begin=half)
        else:
            other = nn.Sequential(
                self._depthwise(in_channels, context),
                conv_norm_act(in_channels, half, 1, context, act=self.activation),
            )
            joined = Concat(other, self._branch(in_channels, context))
        return nn.Sequential(joined, ChannelShuffle(2))

    def _branch(self, in_channels: int, context: BuildContext) -> nn.Module:
        half = self.out_channels // 2
        return nn.Sequential(
            conv_norm_act(in_channels, half, 1, context, act=self.activation),
            self._depthwise(half, context),
            conv_norm_act(half, half, 1, context, act=self.activation),
        )

    def _depthwise(self, channels: int, context: BuildContext) -> nn.Module:
        return conv_norm_act(channels, channels, self.kernel_size, context, stride=self.stride, groups=channels)
