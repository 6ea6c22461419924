"""How the branches of a block come together: added, concatenated, or beside channels that are passed on.

Modules wired by these are counted branch by branch (`outline.py`), so that their layers are shared with others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search_space.layers import DropPath


class Sum(nn.Module):
    """drop_path(branch(x)) + shortcut(x), both of one shape: a shortcut with a projection."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.drop_path(self.branch(x)) + self.shortcut(x)
        return total


class Concat(nn.Module):
    """first(x) and second(x) side by side: [N, C, H, W] → [N, C₁ + C₂, H', W']. Neither is x itself."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.first(x), self.second(x)), 1)


class PassOn(nn.Module):
    """x's first `kept` channels beside branch(x's channels from `begin` on), at the same resolution."""

    def __init__(self, branch: nn.Module, *, kept: int, begin: int) -> None:
        super().__init__()
        self.branch = branch
        self.kept = kept
        self.begin = begin

    def extra_repr(self) -> str:
        """Which channels go where."""
        return f"kept={self.kept}, begin={self.begin}"

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x[:, : self.kept], self.branch(x[:, self.begin :])), 1)
