"""Stems: what turns an image into the first feature map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import nn

from search_space.component import added, register
from search_space.feature_map_part import FeatureMapPart
from search_space.layers import ACTIVATION, PADDING, BuildContext, LayerNorm2d, TruncatedConv2d, conv_norm_act
from search_space.rules import KERNEL_SIZE, STRIDE


@dataclass(frozen=True, kw_only=True)
class Stem(FeatureMapPart):
    """[N, in, H, W] → [N, out_channels, out_size(H), out_size(W)]."""

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


@register("conv_pool")
@dataclass(frozen=True, kw_only=True)
class ConvPoolStem(Stem):
    """One k×k convolution → batch norm → activation → 3×3 max pool: the stem of ResNet (7×7) and ShuffleNet (3×3).

    `stride` is that of both together: of 4, the convolution has 2 and the pool 2. Any other is the convolution's alone,
    and there is no pool.
    """

    stride: Annotated[int, STRIDE] = 4
    kernel_size: Annotated[int, KERNEL_SIZE] = 7
    activation: Annotated[str, ACTIVATION] = "relu"

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        pooled = self.stride == 4
        stride = 2 if pooled else self.stride
        conv = conv_norm_act(
            in_channels, self.out_channels, self.kernel_size, context, stride=stride, act=self.activation
        )
        return nn.Sequential(conv, nn.MaxPool2d(3, 2, 1)) if pooled else conv


@register("patchify")
@dataclass(frozen=True, kw_only=True)
class PatchifyStem(Stem):
    """A convolution whose kernel is its stride, without padding → layer norm: the stem of ConvNeXt.

    Liu et al. 2022, arXiv:2201.03545, section 2.2. Sizes are rounded down.
    """

    stride: Annotated[int, STRIDE] = 4

    def out_size(self, size: int) -> int:
        return size // self.stride

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        conv = TruncatedConv2d(in_channels, self.out_channels, self.stride, self.stride)
        return nn.Sequential(conv, LayerNorm2d(self.out_channels, eps=1e-6))
