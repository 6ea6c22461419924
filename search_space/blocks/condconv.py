"""CondConv: an MBConv whose convolutions are mixed anew for each image out of those of several experts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_space.blocks.inverted_residual import InvertedResidual
from search_space.component import added, register
from search_space.errors import InputError
from search_space.layers import BuildContext, Linear, activation, group_count, pad_same
from search_space.rules import GROUP_SIZE, Integer


@register("condconv")
@dataclass(frozen=True, kw_only=True)
class CondConv(InvertedResidual):
    """1×1 expansion → depthwise k×k → (squeeze-excite) → 1×1 linear projection, each of `num_experts` experts.

    Yang et al. 2019, arXiv:1904.04971: the experts' weights are summed by the sigmoid of a linear layer on the pooled
    input, and the convolution runs once. The expansion is never left out.
    """

    num_experts: Annotated[int, Integer(1, 1_024)] = 4
    group_size: Annotated[int, GROUP_SIZE] = added(1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.downsampling != "strided":
            raise InputError(f"{self.type} has strided downsampling only", self.downsampling, field="downsampling")

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        return [_Branch(self, in_channels, context)]


class ExpertConv2d(nn.Module):
    """A convolution without bias, its weights a sum over experts: ([N, in, H, W], [N, experts]) → [N, out, H', W']."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        experts: int,
        stride: int = 1,
        groups: int = 1,
        padding: str = "symmetric",
    ) -> None:
        super().__init__()
        self.shape = (out_channels, in_channels // groups, kernel_size, kernel_size)
        self.stride, self.groups, self.padding = stride, groups, padding
        self.weight = nn.Parameter(torch.empty(experts, math.prod(self.shape)))
        self.initialise()

    def initialise(self) -> None:
        """Each expert as a convolution: normal, variance 2 / fan-out counted per group (He et al. 2015)."""
        out_channels, _, kernel_size, _ = self.shape
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / (kernel_size**2 * out_channels // self.groups)))

    def extra_repr(self) -> str:
        """Everything: modules that print alike are counted once."""
        return f"{len(self.weight)} × {self.shape}, stride={self.stride}, groups={self.groups}, padding={self.padding}"

    def forward(self, x: Tensor, routing: Tensor) -> Tensor:
        count, kernel_size = len(x), self.shape[2]
        weight = (routing @ self.weight).reshape(count * self.shape[0], *self.shape[1:])
        pad = kernel_size // 2
        if self.padding == "same":
            x, pad = pad_same(x, kernel_size, self.stride), 0
        # All images side by side, each with filters of its own.
        x = x.reshape(1, -1, *x.shape[2:])
        x = F.conv2d(x, weight, stride=self.stride, padding=pad, groups=self.groups * count)
        return x.reshape(count, self.shape[0], *x.shape[2:])


class _Branch(nn.Module):
    """What stands beside the shortcut, in one module, because all convolutions need the routing."""

    def __init__(self, block: CondConv, in_channels: int, context: BuildContext) -> None:
        super().__init__()
        wide, experts = block.wide(in_channels), block.num_experts
        groups = group_count(block.group_size, wide)
        self.expand = ExpertConv2d(in_channels, wide, 1, experts)
        self.expand_norm = context.norm(wide)
        self.spatial = ExpertConv2d(wide, wide, block.kernel_size, experts, block.stride, groups, block.padding)
        self.spatial_norm = context.norm(wide)
        self.attention = nn.Sequential(*block.squeeze_excite(in_channels, wide))
        self.project = ExpertConv2d(wide, block.out_channels, 1, experts)
        self.project_norm = context.norm(block.out_channels)
        self.route = Linear(in_channels, experts)
        self.act = activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        routing = self.route(x.mean((2, 3))).sigmoid()
        x = self.act(self.expand_norm(self.expand(x, routing)))
        x = self.attention(self.act(self.spatial_norm(self.spatial(x, routing))))
        projected: Tensor = self.project_norm(self.project(x, routing))
        return projected
