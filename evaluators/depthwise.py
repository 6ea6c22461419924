"""Depthwise convolutions whose training on the CPU does not wait for one slow kernel of oneDNN's.

The gradient by the weights of a k×k depthwise convolution takes oneDNN up to a hundred times as long as the rest of the
layer if k is 5 or more: with 1,536 channels of 3×3 pixels most of a whole network's training went into a single such
layer. Kernels of 3×3 have no such trouble, and the gradient by a large kernel is made of those by its 3×3 parts, each
of which sees the image shifted. See docs/decisions/0022-large-depthwise-kernels.md.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOW_FROM = 5  # pixels
_PART = 3  # pixels


def speed_up_depthwise(model: nn.Module) -> nn.Module:
    """Give large depthwise convolutions another backward pass, in place; they stay convolutions in all else.

    What is computed is the same but for the order of sums. For training on the CPU.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and _is_slow(module):
            module.__class__ = _Depthwise
    return model


def _is_slow(conv: nn.Conv2d) -> bool:
    as_usual = type(conv).forward is nn.Conv2d.forward and type(conv)._conv_forward is nn.Conv2d._conv_forward
    return (
        as_usual
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size[0] == conv.kernel_size[1] >= _SLOW_FROM
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


class _Depthwise(nn.Conv2d):
    """[N, C, H, W] → [N, C, H', W']: a convolution for which `_is_slow` holds."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor = _InParts.apply(x, weight, self.stride, self.padding)
        return out if bias is None else out + bias[:, None, None]


class _InParts(torch.autograd.Function):
    """Depthwise convolution whose weight gradient is computed for 3×3 parts of the kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        by_x = by_weight = None
        if ctx.needs_input_grad[0]:
            by_x, _ = _backward(gradient, x, weight, ctx.stride, ctx.padding, by_x=True)
        if ctx.needs_input_grad[1]:
            by_weight = _by_weight(gradient, x, weight, ctx.stride, ctx.padding)
        return by_x, by_weight, None, None


def _by_weight(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Gradient by the kernel [C, 1, k, k]: that of each 3×3 part, which sees `x` from its own place on."""
    size = weight.shape[2]
    rows, columns = (step * (length - 1) + _PART for step, length in zip(stride, gradient.shape[2:], strict=True))
    padded = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    part = weight[:, :, :_PART, :_PART]
    whole = torch.empty_like(weight)
    for top in _places(size):
        for left in _places(size):
            seen = padded[:, :, top : top + rows, left : left + columns]
            _, found = _backward(gradient, seen, part, stride, (0, 0), by_x=False)
            whole[:, :, top : top + _PART, left : left + _PART] = found
    return whole


def _places(size: int) -> list[int]:
    """Where parts begin that cover a kernel of `size` pixels; the last may overlap the one before."""
    return [*range(0, size - _PART, _PART), size - _PART]


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], *, by_x: bool
) -> tuple[Tensor, Tensor]:
    """PyTorch's own gradient by `x`, or else by `weight`."""
    by_x_, by_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), x.shape[1], (by_x, not by_x, False)
    )
    return by_x_, by_weight
