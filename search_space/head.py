"""Heads: what turns the last feature map into class scores."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from torch import nn

from search_space.component import Component, added, register
from search_space.layers import ACTIVATION, BuildContext, Linear, TruncatedLinear, activation, conv_norm_act
from search_space.rules import CHANNELS_OR_NONE, RATE, Flag


@dataclass(frozen=True, kw_only=True)
class Head(Component):
    """[N, in, H, W] → [N, num_classes]."""

    kind: ClassVar[str] = "head"

    @abstractmethod
    def build(self, in_channels: int, num_classes: int, context: BuildContext) -> nn.Module:
        """The module for `in_channels` input channels and `num_classes` outputs (logits)."""


@register("pooled")
@dataclass(frozen=True, kw_only=True)
class PooledHead(Head):
    """(1×1 conv) → global average pool → (linear → activation) → dropout → linear; 0 leaves a part out.

    MobileNetV1: neither. MobileNetV2, MnasNet, EfficientNet: `conv_channels` 1280. MobileNetV3, whose last stage is
    "efficient" (Howard et al. 2019, figure 5): `conv_channels` 960 and, after the pool, `hidden_channels` 1280; some
    of its descendants do without `hidden_bias`.
    """

    conv_channels: Annotated[int, CHANNELS_OR_NONE] = 0
    hidden_channels: Annotated[int, CHANNELS_OR_NONE] = 0
    activation: Annotated[str, ACTIVATION] = "relu"
    dropout: Annotated[float, RATE] = 0.0
    hidden_bias: Annotated[bool, Flag()] = added(True)

    def unused_fields(self) -> tuple[str, ...]:
        unused = [] if self.conv_channels or self.hidden_channels else ["activation"]
        return (*unused, *([] if self.hidden_channels else ["hidden_bias"]))

    def at_inference(self) -> PooledHead:
        return replace(self, dropout=0.0)

    def build(self, in_channels: int, num_classes: int, context: BuildContext) -> nn.Module:
        layers: list[nn.Module] = []
        channels = in_channels
        if self.conv_channels:
            layers.append(conv_norm_act(channels, self.conv_channels, 1, context, act=self.activation))
            channels = self.conv_channels
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        if self.hidden_channels:
            hidden = Linear(channels, self.hidden_channels, bias=self.hidden_bias)
            layers += [hidden, activation(self.activation)]
            channels = self.hidden_channels
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        layers.append(Linear(channels, num_classes))
        return nn.Sequential(*layers)


@register("pooled_norm")
@dataclass(frozen=True, kw_only=True)
class PooledNormHead(Head):
    """Global average pool → layer norm → dropout → linear: the head of ConvNeXt (Liu et al. 2022)."""

    dropout: Annotated[float, RATE] = 0.0

    def at_inference(self) -> PooledNormHead:
        return replace(self, dropout=0.0)

    def build(self, in_channels: int, num_classes: int, context: BuildContext) -> nn.Module:
        dropout = [nn.Dropout(self.dropout)] if self.dropout > 0 else []
        norm, linear = nn.LayerNorm(in_channels, eps=1e-6), TruncatedLinear(in_channels, num_classes)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm, *dropout, linear)
