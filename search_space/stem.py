"""Stems: what turns an image into the first feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import nn

from search_space.component import added, register
from search_space.feature_map_part import FeatureMapPart
from search_space.layers import ACTIVATION, PADDING, BuildContext, conv_norm_act
from search_space.rules import KERNEL_SIZE, STRIDE


@dataclass(frozen=True, kw_only=True)
class Stem(FeatureMapPart):
    """[N, in, H, W] → [N, out_channels, ceil(H/stride), ceil(W/stride)]."""

    kind: ClassVar[str] = "stem"
    stride: Annotated[int, STRIDE] = 2


@register("conv")
@dataclass(frozen=True, kw_only=True)
class ConvStem(Stem):
    """One k×k convolution → batch norm → activation: the stem of every MobileNet, MnasNet and EfficientNet."""

    kernel_size: Annotated[int, KERNEL_SIZE] = 3
    activation: Annotated[str, ACTIVATION] = "relu"
    padding: Annotated[str, PADDING] = added("symmetric")

    def unused_fields(self) -> tuple[str, ...]:
        return ("padding",) if self.stride == 1 or self.kernel_size == 1 else ()

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        return conv_norm_act(
            in_channels,
            self.out_channels,
            self.kernel_size,
            context,
            stride=self.stride,
            act=self.activation,
            padding=self.padding,
        )
