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
from search_space.rules import CHANNELS_OR_NONE, Integer


@register("condconv")
@dataclass(frozen=True, kw_only=True)
class CondConv(InvertedResidual):
    """1×1 expansion → depthwise k×k → (squeeze-excite) → 1×1 linear projection, each of `num_experts` experts.

    Yang et al. 2019, arXiv:1904.04971: the experts' weights are summed by the sigmoid of a linear layer on the pooled
    input, and the convolution runs once. The expansion is never left out.
    """

    num_experts: Annotated[int, Integer(1, 1_024)] = 4
    group_size: Annotated[int, CHANNELS_OR_NONE] = added(1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.downsampling != "strided":
            raise InputError(f"{self.type} has strided downsampling only", self.downsampling, field="downsampling")

    def layers(self, in_channels: int, context: BuildContext) -> list[nn.Module]:
        wide, experts = self.wide(in_channels), self.num_experts
        groups = group_count(self.group_size, wide)
        return [
            _Mixed(
                nn.ModuleList(
                    [
                        ExpertConv2d(in_channels, wide, 1, experts),
                        ExpertConv2d(wide, wide, self.kernel_size, experts, self.stride, groups, self.padding),
                        ExpertConv2d(wide, self.out_channels, 1, experts),
                    ]
                ),
                nn.ModuleList(context.norm(channels) for channels in (wide, wide, self.out_channels)),
                self.activation,
                nn.Sequential(*self.squeeze_excite(in_channels, wide)),
                Linear(in_channels, experts),
            )
        ]


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
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / (kernel_size**2 * out_channels // groups)))

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


class _Mixed(nn.Module):
    """The branch: the parts that need the routing, in their order."""

    def __init__(
        self, convs: nn.ModuleList, norms: nn.ModuleList, act: str, attention: nn.Sequential, route: nn.Module
    ) -> None:
        super().__init__()
        self.convs, self.norms, self.act, self.attention, self.route = convs, norms, activation(act), attention, route

    def forward(self, x: Tensor) -> Tensor:
        routing = self.route(x.mean((2, 3))).sigmoid()
        for index in (0, 1):
            x = self.act(self.norms[index](self.convs[index](x, routing)))
        projected: Tensor = self.norms[2](self.convs[2](self.attention(x), routing))
        return projected
