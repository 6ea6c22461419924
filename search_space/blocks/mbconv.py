"""MBConv, the inverted residual with a linear bottleneck, with optional squeeze-excite."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from search_space.blocks.inverted_residual import FOREIGN_FIELDS, InvertedResidual
from search_space.component import plain_number, register
from search_space.foreign import NotExpressible, TimmBlock, refuse_other_fields
from search_space.layers import BuildContext, conv_norm_act, round_channels


@register("mbconv")
@dataclass(frozen=True, kw_only=True)
class MBConv(InvertedResidual):
    """1×1 expansion → depthwise k×k → (squeeze-excite) → 1×1 linear projection.

    Sandler et al. 2018 (MobileNetV2), table 1; squeeze-excite as in Tan et al. 2019 (MnasNet) and Howard et al. 2019
    (MobileNetV3). The expansion is left out at `expand_ratio` 1.
    """

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        layers: list[nn.Module] = []
        wide = in_channels
        if self.expand_ratio != 1:
            wide = round_channels(in_channels * self.expand_ratio)
            layers.append(conv_norm_act(in_channels, wide, 1, context, act=self.activation))
        depthwise = conv_norm_act(
            wide, wide, self.kernel_size, context, stride=self.stride, groups=wide, act=self.activation
        )
        project = conv_norm_act(wide, self.out_channels, 1, context)
        return [*layers, depthwise, *self.squeeze_excite(in_channels, wide), project]

    def timm_block(self, in_channels: int) -> TimmBlock:
        refuse_other_fields("timm", self, FOREIGN_FIELDS)
        wide = round_channels(in_channels * self.expand_ratio) if self.expand_ratio != 1 else in_channels
        squeeze = self.foreign_squeeze(in_channels, wide)
        if self.expand_ratio == 1:  # its `ir` would have the expansion all the same
            return TimmBlock("ds", self.kernel_size, self.activation, squeeze=squeeze)
        return TimmBlock("ir", self.kernel_size, self.activation, self.expand_ratio, squeeze)

    def torchvision_config(self, family: str, in_channels: int, num_layers: int) -> str:
        library = f"torchvision's {family}"
        refuse_other_fields(library, self, FOREIGN_FIELDS)
        wide = round_channels(in_channels * self.expand_ratio) if self.expand_ratio != 1 else in_channels
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
