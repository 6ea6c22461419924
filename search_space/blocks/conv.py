"""Standard convolution: k×k conv → batch norm → activation, no shortcut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.blocks.base import Block
from search_space.component import added, register
from search_space.foreign import TimmBlock, refuse_other_fields
from search_space.layers import ACTIVATION, PADDING, BuildContext, conv_norm_act
from search_space.rules import KERNEL_SIZE


@register("conv")
@dataclass(frozen=True, kw_only=True)
class Conv(Block):
    """A plain convolution, as one of MnasNet's operations (Tan et al. 2019, section 4.1)."""

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

    def timm_block(self, in_channels: int) -> TimmBlock:
        refuse_other_fields("timm", self, ("kernel_size", "activation"))
        return TimmBlock("cn", self.kernel_size, self.activation)
