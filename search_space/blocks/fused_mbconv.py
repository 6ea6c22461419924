"""Fused-MBConv: the expansion and the depthwise convolution of MBConv fused into one k×k convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.inverted_residual import FOREIGN_FIELDS, InvertedResidual
from search_space.component import plain_number, register
from search_space.foreign import NotExpressible, TimmBlock, refuse_other_fields
from search_space.layers import ACTIVATION, BuildContext, conv_norm_act


@register("fused_mbconv")
@dataclass(frozen=True, kw_only=True)
class FusedMBConv(InvertedResidual):
    """k×k expansion → (squeeze-excite) → 1×1 linear projection.

    Tan & Le 2021 (EfficientNetV2), figure 2. With `expand_ratio` 1 the block is one k×k convolution with activation,
    as in the authors' code, unless `expanded_channels` are given; squeeze-excite then stands on that convolution's
    output.
    """

    activation: Annotated[str, ACTIVATION] = "silu"

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        wide = self.wide(in_channels) if self.expands else self.out_channels
        project = [conv_norm_act(wide, self.out_channels, 1, context)] if self.expands else []
        return [*self.spatial(in_channels, wide, context), *self.squeeze_excite(in_channels, wide), *project]

    def timm_block(self, in_channels: int) -> TimmBlock:
        refuse_other_fields("timm", self, (*FOREIGN_FIELDS, "shortcut"))
        if self.expand_ratio == 1:
            if self.se_ratio:
                why = "its convolution of a block without expansion has no squeeze-excite"
                raise NotExpressible("timm", "se_ratio", self.se_ratio, why)
            return TimmBlock("cn", self.kernel_size, self.activation, suffix="_skip" if self.shortcut else "")
        squeeze = self.foreign_squeeze(in_channels, self.wide(in_channels))
        suffix = "" if self.shortcut else "_noskip"
        return TimmBlock("er", self.kernel_size, self.activation, self.expand_ratio, squeeze, suffix)

    def torchvision_config(self, family: str, in_channels: int, num_layers: int) -> str:
        if family != "EfficientNet":
            return super().torchvision_config(family, in_channels, num_layers)
        library = f"torchvision's {family}"
        refuse_other_fields(library, self, FOREIGN_FIELDS)
        if self.activation != "silu":
            raise NotExpressible(library, "activation", self.activation, "its blocks have silu")
        if self.se_ratio:
            raise NotExpressible(library, "se_ratio", self.se_ratio, "its fused blocks have no squeeze-excite")
        wide = self.wide(in_channels)
        if (wide == in_channels) != (self.expand_ratio == 1):  # it goes by the widths
            raise NotExpressible(library, "expand_ratio", self.expand_ratio, f"with {in_channels} channels")
        shape = f"{self.kernel_size}, {self.stride}, {in_channels}, {self.out_channels}, {num_layers}"
        return f"FusedMBConvConfig({plain_number(self.expand_ratio)}, {shape})"
