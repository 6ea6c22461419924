"""How a block with a stride makes the feature map smaller.

strided          its k×k convolution has the stride
blur             that convolution has none, and a 3×3 binomial filter with the stride follows (Zhang 2019)
space_to_depth   a convolution of stride × stride pixels comes first, to stride² times the channels, and the k×k
                 convolution sees as many pixels of the input as before (Li et al. 2021, EfficientNet-X)
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_space.layers import BuildContext, conv_norm_act
from search_space.rules import OneOf

STRIDED, BLUR, SPACE_TO_DEPTH = "strided", "blur", "space_to_depth"
DOWNSAMPLING = OneOf((STRIDED, BLUR, SPACE_TO_DEPTH))


class BlurPool2d(nn.Module):
    """[N, C, H, W] → [N, C, ceil(H/stride), ceil(W/stride)], each channel blurred. Zhang 2019, arXiv:1904.11486."""

    _BINOMIAL: ClassVar = (0.25, 0.5, 0.25)

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        line = torch.tensor(self._BINOMIAL)
        self.register_buffer("kernel", torch.outer(line, line).expand(channels, 1, 3, 3).clone(), persistent=False)

    def extra_repr(self) -> str:
        """Everything: modules that print alike are counted once."""
        return f"{self.channels}, stride={self.stride}"

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.get_buffer("kernel"), stride=self.stride, padding=1, groups=self.channels)


def space_to_depth(in_channels: int, stride: int, context: BuildContext, act: str) -> nn.Module:
    """[N, in, H, W] → [N, in · stride², ceil(H/stride), ceil(W/stride)]."""
    return conv_norm_act(in_channels, in_channels * stride**2, stride, context, stride=stride, act=act, padding="same")
