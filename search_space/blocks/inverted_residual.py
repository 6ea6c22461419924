"""What MBConv and Fused-MBConv share: their fields, squeeze-excite and the shortcut between narrow ends."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from search_space.blocks.base import Block
from search_space.component import added
from search_space.downsampling import BLUR, DOWNSAMPLING, SPACE_TO_DEPTH, STRIDED, BlurPool2d, space_to_depth
from search_space.foreign import Squeeze
from search_space.layers import (
    ACTIVATION,
    PADDING,
    SE_VARIANT,
    SE_VARIANTS,
    BuildContext,
    GlobalContext,
    Residual,
    SqueezeExcite,
    conv_norm_act,
    group_count,
    round_channels,
    squeeze_excite,
)
from search_space.rules import CHANNELS_OR_NONE, EXPAND_RATIO, GROUP_SIZE, KERNEL_SIZE, RATIO, Flag

FOREIGN_FIELDS = ("kernel_size", "expand_ratio", "se_ratio", "se_variant", "activation")
"""Those that `timm_block` and `torchvision_config` of these blocks put into words."""


@dataclass(frozen=True, kw_only=True)
class InvertedResidual(Block):
    """Narrow → wide → narrow, with a linear projection (Sandler et al. 2018); a shortcut where shapes allow it.

    Expanded channels are rounded to 8. `se_ratio` 0 means no squeeze-excite; see `squeeze_excite` for what the ratio
    multiplies in each `se_variant`. `expanded_channels` and `se_channels` above 0 are the widths themselves, instead of
    those that follow from the ratios. The k×k convolution reads `group_size` channels in each group (0: all in one).
    """

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    expand_ratio: Annotated[float, EXPAND_RATIO] = 6.0
    se_ratio: Annotated[float, RATIO] = 0.0
    se_variant: Annotated[str, SE_VARIANT] = SE_VARIANTS[0]
    activation: Annotated[str, ACTIVATION] = "relu6"
    shortcut: Annotated[bool, Flag()] = added(True)
    padding: Annotated[str, PADDING] = added("symmetric")
    downsampling: Annotated[str, DOWNSAMPLING] = added(STRIDED)
    group_size: Annotated[int, GROUP_SIZE] = added(0)
    expanded_channels: Annotated[int, CHANNELS_OR_NONE] = added(0)
    se_channels: Annotated[int, CHANNELS_OR_NONE] = added(0)

    def unused_fields(self) -> tuple[str, ...]:
        # Not shortcut, although it has no effect beside a stride: a row's later blocks have none.
        unused = ["downsampling"] if self.stride == 1 else []
        if self.stride == 1 or self.downsampling != STRIDED:
            unused.append("padding")
        if self.expanded_channels:
            unused.append("expand_ratio")
        if self.se_channels:
            unused.append("se_ratio")
        elif not self.se_ratio:
            unused.append("se_variant")
        return tuple(unused)

    @abstractmethod
    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        """The layers of the branch, in order, behind the space-to-depth convolution if there is one."""

    @property
    def expands(self) -> bool:
        """Whether the expansion is a layer of its own; it is left out at `expand_ratio` 1."""
        return self.expand_ratio != 1 or self.expanded_channels > 0

    def wide(self, in_channels: int) -> int:
        """The expanded channels."""
        return self.expanded_channels or round_channels(in_channels * self.expand_ratio)

    def spatial(self, in_channels: int, out_channels: int, context: BuildContext) -> list[nn.Module]:
        """The k×k convolution with norm and activation, and what makes the feature map smaller there."""
        stride, kernel_size, padding = self.stride, self.kernel_size, self.padding
        if self.downsampling == SPACE_TO_DEPTH:
            stride, kernel_size, padding = 1, -(-self.kernel_size // self.stride), "same"
        elif self.downsampling == BLUR:
            stride = 1
        groups = group_count(self.group_size, in_channels)
        conv = conv_norm_act(
            in_channels,
            out_channels,
            kernel_size,
            context,
            stride=stride,
            groups=groups,
            act=self.activation,
            padding=padding,
        )
        return [conv, BlurPool2d(out_channels, self.stride)] if self.downsampling == BLUR else [conv]

    def squeeze_excite(self, in_channels: int, channels: int) -> list[nn.Module]:
        """Squeeze-excite on `channels` channels of a branch with `in_channels` inputs, or nothing."""
        if not self.se_ratio and not self.se_channels:
            return []
        block_in = in_channels // self.stride**2 if self.downsampling == SPACE_TO_DEPTH else in_channels
        return [
            squeeze_excite(
                self.se_variant,
                block_in=block_in,
                channels=channels,
                ratio=self.se_ratio,
                act=self.activation,
                squeeze_channels=self.se_channels,
            )
        ]

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        if self.downsampling == SPACE_TO_DEPTH:
            first = space_to_depth(in_channels, self.stride, context, self.activation)
            return nn.Sequential(first, *self.layers(in_channels * self.stride**2, context))
        branch = nn.Sequential(*self.layers(in_channels, context))
        if self.shortcut and self.stride == 1 and in_channels == self.out_channels:
            return Residual(branch, context.drop_path)
        return branch

    def width_multiple(self) -> int:
        return math.lcm(super().width_multiple(), self.group_size or 1)

    def foreign_squeeze(self, in_channels: int, channels: int) -> Squeeze | None:
        """The squeeze-excite as other libraries are told of it."""
        with torch.device("meta"):
            layers = self.squeeze_excite(in_channels, channels)
        for layer in layers:
            assert isinstance(layer, SqueezeExcite | GlobalContext)
            return Squeeze(channels, layer.reduce.out_channels, self.se_ratio, self.se_variant)
        return None
