"""What stems and blocks have in common: they map images or feature maps to feature maps."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from torch import nn

from search_space.component import Component
from search_space.layers import BuildContext
from search_space.rules import CHANNELS, STRIDE


@dataclass(frozen=True, kw_only=True)
class FeatureMapPart(Component):
    """[N, in, H, W] → [N, out_channels, out_size(H), out_size(W)]."""

    out_channels: Annotated[int, CHANNELS]
    stride: Annotated[int, STRIDE] = 1

    @abstractmethod
    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        """The module for `in_channels` input channels, its parameters uninitialised by us."""

    def out_size(self, size: int) -> int:
        """Height (or width) after the part, from the one before it, in pixels.

        Rounded up, as convolutions with padding do. A type without padding overrides it; it may round down, but gives
        at least 1 if `size` is at least the stride.
        """
        return -(-size // self.stride)
