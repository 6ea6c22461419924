"""What every block type owes. One file in this folder per block type; nothing else in the tree names one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import nn

from search_space.component import Component
from search_space.layers import BuildContext
from search_space.rules import CHANNELS, STRIDE


@dataclass(frozen=True, kw_only=True)
class Block(Component):
    """One residual unit of a network: [N, in, H, W] → [N, out_channels, ceil(H/stride), ceil(W/stride)].

    A block type is a frozen dataclass in a file of this folder, decorated with `@register("its_name")`. It declares its
    fields with their rules and builds its module; cost, latency, files, search and export work from these two alone.
    Fields that have no effect beside others are named by `unused_fields`.
    """

    kind: ClassVar[str] = "block"
    out_channels: Annotated[int, CHANNELS]
    stride: Annotated[int, STRIDE] = 1

    @abstractmethod
    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        """The module for `in_channels` input channels, its parameters uninitialised by us."""

    def out_size(self, size: int) -> int:
        """Height (or width) after the block, from the one before it, in pixels."""
        return -(-size // self.stride)
