"""Convolutions that train faster on the CPU than oneDNN's, which has two weaknesses where feature maps are small.

A 1×1 convolution takes it up to three times as long as the same matrix product. The gradient by the weights of a
depthwise convolution takes it up to a hundred times as long as the rest of the layer if the kernel is 5×5 or more, or
larger than the map: with 1,536 channels of 3×3 pixels most of a whole network's training went into a single such layer.
Kernels of 3×3 on padded images have no such trouble, so that gradient is made of those by the kernel's 3×3 parts.
See docs/decisions/0022-convolutions-on-the-cpu.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOW_FROM = 5  # pixels of the kernel
_SLOW_BELOW = 16  # pixels of the map
_PART = 3  # pixels


def speed_up_convolutions(model: nn.Module) -> nn.Module:
    """Have 1×1 and depthwise convolutions computed in another way, in place; they stay the modules that they are.

    What is computed is the same but for the order of sums. For training on the CPU.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and (faster := _faster(module)) is not None:
            vars(module)["_conv_forward"] = faster
    return model


_Forward = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _faster(conv: nn.Conv2d) -> _Forward | None:
    as_usual = type(conv)._conv_forward is nn.Conv2d._conv_forward
    if not as_usual or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        return None
    if conv.groups == 1 and conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0):
        return _pointwise
    if conv.groups == conv.in_channels == conv.out_channels and conv.dilation == (1, 1):
        # Not bound to the layer: networks that refer to themselves are not freed at once.
        return partial(_depthwise, conv.stride, conv.padding)
    return None


def _is_large(x: Tensor) -> bool:
    return min(x.shape[2:]) >= _SLOW_BELOW


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[N, C, H, W] → [N, C', H, W], 1×1."""
    # Of other layouts a matrix product would have to make copies; on large maps it brings nothing.
    if _is_large(x) or not x.is_contiguous(memory_format=torch.channels_last):
        return F.conv2d(x, weight, bias)
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


def _depthwise(
    stride: tuple[int, ...], padding: tuple[int, ...], x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """[N, C, H, W] → [N, C, H', W'], a channel at a time."""
    kernel = max(weight.shape[2:])
    if kernel <= min(x.shape[2:]) and (kernel < _SLOW_FROM or _is_large(x)):
        return F.conv2d(x, weight, bias, stride, padding, groups=weight.shape[0])
    out: Tensor = _InParts.apply(x, weight, stride, padding)
    return out if bias is None else out + bias[:, None, None]


class _InParts(torch.autograd.Function):
    """Depthwise convolution whose weight gradient is computed for 3×3 parts of the kernel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> Tensor:
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


class _Axis(NamedTuple):
    """Which places of a kernel ever see the image, along one axis, and how it has to be padded for these."""

    first: int
    length: int
    before: int
    after: int

    @classmethod
    def of(cls, kernel: int, size: int, out: int, stride: int, padding: int) -> _Axis:
        reach = stride * (out - 1)
        first = max(0, padding - reach)
        last = min(kernel - 1, padding + size - 1)
        return cls(first, max(0, last - first + 1), padding - first, max(0, reach + last - padding - size + 1))

    @property
    def part(self) -> int:
        return min(_PART, self.length)

    def places(self) -> list[int]:
        """Where parts begin that cover these places; the last may overlap the one before."""
        return [*range(0, self.length - self.part, self.part), self.length - self.part]


def _by_weight(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """Gradient by the kernel [C, 1, k, k']: that of each part, which sees `x` from its own place on."""
    whole = torch.zeros_like(weight)
    sizes = zip(weight.shape[2:], x.shape[2:], gradient.shape[2:], stride, padding, strict=True)
    rows, columns = (_Axis.of(*one) for one in sizes)
    if not (rows.length and columns.length):  # all of the kernel sees padding alone
        return whole
    height, width = (
        step * (out - 1) + axis.part
        for step, out, axis in zip(stride, gradient.shape[2:], (rows, columns), strict=True)
    )
    padded = F.pad(x, (columns.before, columns.after, rows.before, rows.after))
    part = weight[:, :, : rows.part, : columns.part]
    seen = whole[:, :, rows.first : rows.first + rows.length, columns.first : columns.first + columns.length]
    for top in rows.places():
        for left in columns.places():
            image = padded[:, :, top : top + height, left : left + width]
            _, found = _backward(gradient, image, part, stride, (0, 0), by_x=False)
            seen[:, :, top : top + rows.part, left : left + columns.part] = found
    return whole


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...], *, by_x: bool
) -> tuple[Tensor, Tensor]:
    """PyTorch's own gradient by `x`, or else by `weight`."""
    by_x_, by_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), x.shape[1], (by_x, not by_x, False)
    )
    return by_x_, by_weight
