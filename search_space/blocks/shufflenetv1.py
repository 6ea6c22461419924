"""The unit of ShuffleNet: grouped 1×1 convolutions with a channel shuffle in between."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.base import Block
from search_space.blocks.channel_shuffle import ChannelShuffle
from search_space.branches import Concat
from search_space.component import register
from search_space.layers import ACTIVATION, BuildContext, Residual, activation, conv_norm_act
from search_space.rules import KERNEL_SIZE, Integer

_BOTTLENECK = 4


@register("shufflenetv1")
@dataclass(frozen=True, kw_only=True)
class ShuffleNetV1(Block):
    """1×1 in groups → shuffle → depthwise k×k → 1×1 in groups, then the activation. Zhang et al. 2018, figure 2.

    The middle has a quarter of the output's channels, rounded up to a multiple of `groups`. The shortcut is x itself
    where the shapes are equal; where the channels grow, x is average-pooled with the stride (3×3) and stands beside the
    branch, which gives the channels that are missing; else there is none.

    `first_groups` are those of the first 1×1 convolution: 0 means `groups`, too; the paper has 1 where the input has
    few channels. Channels that cannot be divided by the groups are divided by their greatest common divisor.
    """

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    groups: Annotated[int, Integer(1, 1_024)] = 3
    first_groups: Annotated[int, Integer(0, 1_024)] = 0
    activation: Annotated[str, ACTIVATION] = "relu"

    def width_multiple(self) -> int:
        return math.lcm(super().width_multiple(), self.groups)

    def unused_fields(self) -> tuple[str, ...]:
        return ("first_groups",) if self.first_groups == self.groups else ()

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        same = self.stride == 1 and in_channels == self.out_channels
        pooled = not same and in_channels < self.out_channels
        branch = self._branch(in_channels, self.out_channels - in_channels if pooled else self.out_channels, context)
        joined: nn.Module = branch
        if same:
            joined = Residual(branch, context.drop_path)
        elif pooled:
            joined = Concat(nn.AvgPool2d(3, self.stride, 1), branch)
        return nn.Sequential(joined, activation(self.activation))

    def _branch(self, in_channels: int, out_channels: int, context: BuildContext) -> nn.Module:
        middle = -(-self.out_channels // (_BOTTLENECK * self.groups)) * self.groups
        first = math.gcd(self.first_groups or self.groups, in_channels, middle)
        last = math.gcd(self.groups, middle, out_channels)
        return nn.Sequential(
            conv_norm_act(in_channels, middle, 1, context, groups=first, act=self.activation),
            ChannelShuffle(self.groups),
            conv_norm_act(middle, middle, self.kernel_size, context, stride=self.stride, groups=middle),
            conv_norm_act(middle, out_channels, 1, context, groups=last),
        )
