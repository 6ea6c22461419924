"""MBConv, the inverted residual with a linear bottleneck, with optional squeeze-excite."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.inverted_residual import FOREIGN_FIELDS, InvertedResidual
from search_space.component import added, plain_number, register
from search_space.errors import InputError
from search_space.foreign import NotExpressible, TimmBlock, refuse_other_fields
from search_space.layers import BuildContext, MixedDepthwise, conv_norm_act, norm_act
from search_space.rules import GROUP_SIZE, GROUPS, Integer


@register("mbconv")
@dataclass(frozen=True, kw_only=True)
class MBConv(InvertedResidual):
    """1×1 expansion → depthwise k×k → (squeeze-excite) → 1×1 linear projection.

    Sandler et al. 2018 (MobileNetV2), table 1; squeeze-excite as in Tan et al. 2019 (MnasNet) and Howard et al. 2019
    (MobileNetV3). The expansion is left out at `expand_ratio` 1, unless `expanded_channels` are given.

    `mixed_kernels` above 1: so many shares of the channels have kernels of their own size, `kernel_size`, 2 more, 4
    more, … (Tan & Le 2019, MixConv); MixNet has 1×1 convolutions in groups, too.
    """

    group_size: Annotated[int, GROUP_SIZE] = added(1)
    mixed_kernels: Annotated[int, Integer(1, 16)] = added(1)
    expand_groups: Annotated[int, GROUPS] = added(1)
    project_groups: Annotated[int, GROUPS] = added(1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mixed_kernels > 1 and (self.group_size != 1 or self.downsampling != "strided"):
            rule = "mixed_kernels are for depthwise convolutions, whose downsampling is strided"
            raise InputError(rule, self.mixed_kernels, field="mixed_kernels", remedy="leave out one of the fields")

    def unused_fields(self) -> tuple[str, ...]:
        return (*super().unused_fields(), *(() if self.expands else ("expand_groups",)))

    def spatial(self, in_channels: int, out_channels: int, context: BuildContext) -> list[nn.Module]:
        if self.mixed_kernels == 1:
            return super().spatial(in_channels, out_channels, context)
        if out_channels < self.mixed_kernels:
            raise InputError("mixed_kernels may not outnumber the expanded channels", self.mixed_kernels)
        sizes = range(self.kernel_size, self.kernel_size + 2 * self.mixed_kernels, 2)
        conv = MixedDepthwise(out_channels, sizes, self.stride, self.padding)
        return [norm_act(conv, out_channels, context, self.activation)]

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        layers: list[nn.Module] = []
        wide = in_channels
        if self.expands:
            wide = self.wide(in_channels)
            expand = conv_norm_act(in_channels, wide, 1, context, groups=self.expand_groups, act=self.activation)
            layers.append(expand)
        project = conv_norm_act(wide, self.out_channels, 1, context, groups=self.project_groups)
        return [*layers, *self.spatial(wide, wide, context), *self.squeeze_excite(in_channels, wide), project]

    def width_multiple(self) -> int:
        return math.lcm(super().width_multiple(), self.expand_groups, self.project_groups)

    def timm_block(self, in_channels: int) -> TimmBlock:
        refuse_other_fields("timm", self, (*FOREIGN_FIELDS, "shortcut"))
        suffix = "" if self.shortcut else "_noskip"
        wide = self.wide(in_channels) if self.expands else in_channels
        squeeze = self.foreign_squeeze(in_channels, wide)
        if self.expand_ratio == 1:  # its `ir` would have the expansion all the same
            return TimmBlock("ds", self.kernel_size, self.activation, squeeze=squeeze, suffix=suffix)
        return TimmBlock("ir", self.kernel_size, self.activation, self.expand_ratio, squeeze, suffix)

    def torchvision_config(self, family: str, in_channels: int, num_layers: int) -> str:
        library = f"torchvision's {family}"
        refuse_other_fields(library, self, FOREIGN_FIELDS)
        wide = self.wide(in_channels) if self.expands else in_channels
        if self.expand_ratio != 1 and wide == in_channels:  # it goes by the widths, and would leave the expansion out
            raise NotExpressible(library, "expand_ratio", self.expand_ratio, "an expansion to the same width")
        for channels in (in_channels, wide, self.out_channels):
            if channels % 8:
                raise NotExpressible(library, "out_channels", channels, "its channels are multiples of 8")
        if family == "EfficientNet":
            if self.activation != "silu":
                raise NotExpressible(library, "activation", self.activation, "its blocks have silu")
            if self.se_ratio != 0.25 or self.se_variant != "efficientnet":
                raise NotExpressible(library, *self._squeeze_field("efficientnet"), "its blocks have a quarter")
            shape = f"{self.kernel_size}, {self.stride}, {in_channels}, {self.out_channels}, {num_layers}"
            return f"MBConvConfig({plain_number(self.expand_ratio)}, {shape})"
        if family == "MobileNetV3":
            names = {"relu": "RE", "hard_swish": "HS"}
            if self.activation not in names:
                raise NotExpressible(library, "activation", self.activation, "its blocks have relu or hard_swish")
            if self.se_ratio not in (0, 0.25) or (self.se_ratio and self.se_variant != "mobilenetv3"):
                raise NotExpressible(library, *self._squeeze_field("mobilenetv3"), "its blocks have a quarter or none")
            shape = f"{in_channels}, {self.kernel_size}, {wide}, {self.out_channels}"
            options = f'{self.se_ratio > 0}, "{names[self.activation]}", {self.stride}, 1, 1.0'
            return f"InvertedResidualConfig({shape}, {options})"
        return super().torchvision_config(family, in_channels, num_layers)

    def _squeeze_field(self, variant: str) -> tuple[str, object]:
        """The field, with its value, by which the squeeze-excite differs from a variant's quarter."""
        if self.se_ratio and self.se_variant != variant:
            return "se_variant", self.se_variant
        return "se_ratio", self.se_ratio
