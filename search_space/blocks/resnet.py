"""Residual blocks of ResNet, basic and bottleneck; with groups, those of ResNeXt."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.base import Block
from search_space.branches import Sum
from search_space.component import register
from search_space.layers import ACTIVATION, BuildContext, Residual, activation, conv_norm_act
from search_space.rules import KERNEL_SIZE, Integer

_EXPANSION = 4


@dataclass(frozen=True, kw_only=True)
class ResNetBlock(Block):
    """x + branch(x), then the activation. He et al. 2016, arXiv:1512.03385, figure 5.

    Where the shapes differ, the shortcut is a 1×1 convolution with the stride → batch norm (the paper's option B).
    """

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    activation: Annotated[str, ACTIVATION] = "relu"

    @abstractmethod
    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        """The layers of the branch, in order; the last without activation."""

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        branch = nn.Sequential(*self.layers(in_channels, context))
        total: nn.Module
        if self.stride == 1 and in_channels == self.out_channels:
            total = Residual(branch, context.drop_path)
        else:
            projection = conv_norm_act(in_channels, self.out_channels, 1, context, stride=self.stride)
            total = Sum(branch, projection, context.drop_path)
        return nn.Sequential(total, activation(self.activation))


@register("resnet_basic")
@dataclass(frozen=True, kw_only=True)
class ResNetBasic(ResNetBlock):
    """Two k×k convolutions: the block of ResNet-18 and -34."""

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        out, k = self.out_channels, self.kernel_size
        return [
            conv_norm_act(in_channels, out, k, context, stride=self.stride, act=self.activation),
            conv_norm_act(out, out, k, context),
        ]


@register("resnet_bottleneck")
@dataclass(frozen=True, kw_only=True)
class ResNetBottleneck(ResNetBlock):
    """1×1 → k×k → 1×1, narrow in the middle: the block of ResNet-50; the stride is the k×k convolution's.

    The middle has `groups` groups (the cardinality of Xie et al. 2017, ResNeXt, arXiv:1611.05431) of
    out_channels / 4 · base_width / 64 channels each, rounded down: 256 channels have groups of `base_width`.
    """

    groups: Annotated[int, Integer(1, 1_024)] = 1
    base_width: Annotated[int, Integer(1, 1_024)] = 64

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        width = max(1, self.out_channels // _EXPANSION * self.base_width // 64) * self.groups
        act = self.activation
        return [
            conv_norm_act(in_channels, width, 1, context, act=act),
            conv_norm_act(width, width, self.kernel_size, context, stride=self.stride, groups=self.groups, act=act),
            conv_norm_act(width, self.out_channels, 1, context),
        ]
