"""What MBConv and Fused-MBConv share: their fields, squeeze-excite and the shortcut between narrow ends."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from search_space.blocks.base import Block
from search_space.foreign import Squeeze
from search_space.layers import (
    ACTIVATION,
    SE_VARIANT,
    SE_VARIANTS,
    BuildContext,
    Residual,
    SqueezeExcite,
    squeeze_excite,
)
from search_space.rules import EXPAND_RATIO, KERNEL_SIZE, RATIO

FOREIGN_FIELDS = ("kernel_size", "expand_ratio", "se_ratio", "se_variant", "activation")
"""Those that `timm_block` and `torchvision_config` of these blocks put into words."""


@dataclass(frozen=True, kw_only=True)
class InvertedResidual(Block):
    """Narrow → wide → narrow, with a linear projection (Sandler et al. 2018); a shortcut where shapes allow it.

    Expanded channels are rounded to 8. `se_ratio` 0 means no squeeze-excite; see `squeeze_excite` for what the ratio
    multiplies in each `se_variant`.
    """

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    expand_ratio: Annotated[float, EXPAND_RATIO] = 6.0
    se_ratio: Annotated[float, RATIO] = 0.0
    se_variant: Annotated[str, SE_VARIANT] = SE_VARIANTS[0]
    activation: Annotated[str, ACTIVATION] = "relu6"

    def unused_fields(self) -> tuple[str, ...]:
        return () if self.se_ratio else ("se_variant",)

    @abstractmethod
    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        """The layers of the branch, in order."""

    def squeeze_excite(self, in_channels: int, channels: int) -> list[nn.Module]:
        """Squeeze-excite on `channels` channels of a block with `in_channels` inputs, or nothing."""
        if self.se_ratio == 0:
            return []
        return [
            squeeze_excite(
                self.se_variant, block_in=in_channels, channels=channels, ratio=self.se_ratio, act=self.activation
            )
        ]

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        branch = nn.Sequential(*self.layers(in_channels, context))
        if self.stride == 1 and in_channels == self.out_channels:
            return Residual(branch, context.drop_path)
        return branch

    def foreign_squeeze(self, in_channels: int, channels: int) -> Squeeze | None:
        """The squeeze-excite as other libraries are told of it."""
        with torch.device("meta"):
            layers = self.squeeze_excite(in_channels, channels)
        for layer in layers:
            assert isinstance(layer, SqueezeExcite)
            return Squeeze(channels, layer.reduce.out_channels, self.se_ratio, self.se_variant)
        return None
