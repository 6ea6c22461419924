"""Channel shuffle, which both ShuffleNets have."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelShuffle(nn.Module):
    """Channel i of group g of G groups becomes channel g of group i: [N, C, H, W] → the same shape, C divisible by G.

    Zhang et al. 2018, arXiv:1707.01083, figure 1.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def extra_repr(self) -> str:
        """The number of groups."""
        return f"groups={self.groups}"

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        grouped = x.reshape(batch, self.groups, channels // self.groups, height, width)
        return grouped.transpose(1, 2).reshape(batch, channels, height, width)
