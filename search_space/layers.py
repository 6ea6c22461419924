"""The layers that block types are made of: convolution + norm + activation, squeeze-excite, stochastic depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_space.errors import InputError
from search_space.rules import OneOf

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hard_swish": lambda: nn.Hardswish(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
}
_GATES: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": lambda: nn.Hardsigmoid(inplace=True),
}
ACTIVATION_TYPES = tuple(type(make()) for name, make in _ACTIVATIONS.items() if name != "identity")
"""Their classes."""
ACTIVATION = OneOf(tuple(_ACTIVATIONS))
"""Rule of every `activation` field. h-swish: Howard et al. 2019 (MobileNetV3), eq. 3; SiLU is "swish"."""

SE_VARIANTS = ("efficientnet", "mobilenetv3", "fbnetv3", "global_context")
SE_VARIANT = OneOf(SE_VARIANTS)
PADDINGS = ("symmetric", "same")
PADDING = OneOf(PADDINGS)
"""Rule of every `padding` field: k//2 on all sides, or TensorFlow's, see `Conv2dSame`."""


def activation(name: str) -> nn.Module:
    """The activation module of this name (in place where PyTorch has it)."""
    return _ACTIVATIONS[name]()


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least `divisor`, never more than 10 % below `channels`.

    Source: `_make_divisible` of the MobileNet and EfficientNet authors' code.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` whose weights are left to `network.initialise`, so that they are not drawn twice."""

    def initialise(self) -> None:
        """Normal, variance 2 / fan-out counted per group (He et al. 2015; the EfficientNet and MnasNet code)."""
        fan_out = self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups
        nn.init.normal_(self.weight, 0.0, math.sqrt(2.0 / fan_out))
        _zero_bias(self)

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Linear(nn.Linear):
    """`nn.Linear` whose weights are left to `network.initialise`."""

    def initialise(self) -> None:
        """Normal, standard deviation 0.01 (MobileNetV2/V3)."""
        nn.init.normal_(self.weight, 0.0, 0.01)
        _zero_bias(self)

    def reset_parameters(self) -> None:
        """Leave the memory as it is."""


class Conv2dSame(Conv2d):
    """A convolution with TensorFlow's `SAME` padding: no more than gives ceil(H/stride), the odd pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, self.kernel_size[0], self.stride[0]))


def pad_same(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """[N, C, H, W] with the zeros of `SAME` padding around it."""
    height, width = (max((-(-size // stride) - 1) * stride + kernel_size - size, 0) for size in x.shape[2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


class MixedDepthwise(nn.Module):
    """Depthwise convolution with kernels of several sizes, a share of the channels each. Tan & Le 2019 (MixConv)."""

    def __init__(self, channels: int, kernel_sizes: Sequence[int], stride: int, padding: str) -> None:
        super().__init__()
        share = channels // len(kernel_sizes)
        self.shares = [channels - share * (len(kernel_sizes) - 1), *[share] * (len(kernel_sizes) - 1)]
        self.convs = nn.ModuleList(
            convolution(share, share, kernel_size, stride=stride, groups=share, padding=padding)
            for kernel_size, share in zip(kernel_sizes, self.shares, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        shares = torch.split(x, self.shares, 1)
        return torch.cat([conv(share) for conv, share in zip(self.convs, shares, strict=True)], 1)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: str = "symmetric",
) -> nn.Module:
    """Conv2d without bias; raises `InputError` if the channels cannot be divided into so many groups."""
    for channels in (in_channels, out_channels):
        if channels % groups:
            rule = f"the groups of a convolution must divide its channels, {channels}"
            raise InputError(rule, groups, remedy="choose another width, or other groups")
    if padding == "same":
        return Conv2dSame(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)
    return Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)


def group_count(group_size: int, channels: int) -> int:
    """The groups of a convolution that reads `group_size` channels in each (0: all in one); raises `InputError`."""
    if group_size and channels % group_size:
        rule = f"group_size must divide the channels of the convolution, {channels}"
        raise InputError(rule, group_size, field="group_size", remedy="choose a divisor, 0 or 1")
    return channels // group_size if group_size else 1


@dataclass(frozen=True)
class BuildContext:
    """What a block needs from the network around it: batch-norm constants and its stochastic-depth rate."""

    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    drop_path: float = 0.0

    def norm(self, channels: int) -> nn.BatchNorm2d:
        """Batch normalisation of [N, channels, H, W]."""
        return nn.BatchNorm2d(channels, eps=self.norm_eps, momentum=self.norm_momentum)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    context: BuildContext,
    *,
    stride: int = 1,
    groups: int = 1,
    act: str = "identity",
    padding: str = "symmetric",
) -> nn.Sequential:
    """Conv2d (no bias) → batch norm → activation: [N, in, H, W] → [N, out, ceil(H/s), ceil(W/s)]."""
    conv = convolution(in_channels, out_channels, kernel_size, stride=stride, groups=groups, padding=padding)
    return norm_act(conv, out_channels, context, act)


def norm_act(conv: nn.Module, channels: int, context: BuildContext, act: str) -> nn.Sequential:
    """A convolution → batch norm → activation."""
    layers = [conv, context.norm(channels)]
    if act != "identity":
        layers.append(activation(act))
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Channel attention, [N, C, H, W] → the same shape. Hu et al. 2018, eq. 3."""

    def __init__(self, channels: int, squeeze_channels: int, act: str, gate: str) -> None:
        super().__init__()
        self.reduce = Conv2d(channels, squeeze_channels, 1)
        self.act = activation(act)
        self.expand = Conv2d(squeeze_channels, channels, 1)
        self.gate = _GATES[gate]()

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        scale: Tensor = self.gate(self.expand(self.act(self.reduce(pooled))))
        return x * scale


class GlobalContext(nn.Module):
    """Channel attention to a mean over pixels that is itself attention, [N, C, H, W] → the same shape.

    Cao et al. 2019 (GCNet), with multiplication at the end, as in timm.
    """

    def __init__(self, channels: int, squeeze_channels: int, act: str) -> None:
        super().__init__()
        self.attend = Conv2d(channels, 1, 1)
        self.reduce = Conv2d(channels, squeeze_channels, 1)
        self.norm = nn.LayerNorm(squeeze_channels, eps=1e-6)
        self.act = activation(act)
        self.expand = Conv2d(squeeze_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.attend(x).flatten(2).softmax(2)
        context = x.flatten(2) @ weights.transpose(1, 2)
        squeezed = self.norm(self.reduce(context[..., None]).flatten(1))
        scale: Tensor = self.expand(self.act(squeezed)[..., None, None]).sigmoid()
        return x * scale


def squeeze_excite(
    variant: str, *, block_in: int, channels: int, ratio: float, act: str, squeeze_channels: int = 0
) -> nn.Module:
    """Squeeze-excite as the families published it.

    `efficientnet` (also MnasNet): squeezes to ratio × the *block's input* channels, the block's activation, sigmoid.
    `mobilenetv3`: squeezes to ratio × the channels it stands on, rounded to 8, ReLU, hard sigmoid.
    `fbnetv3`: squeezes to ratio × the block's input channels, rounded to 8, the block's activation, hard sigmoid.
    `global_context`: GCNet's attention instead, ratio × the block's input channels, the block's activation.
    `squeeze_channels` above 0 is the width instead.
    """
    width = squeeze_channels or squeeze_width(variant, block_in=block_in, channels=channels, ratio=ratio)
    if variant == "global_context":
        return GlobalContext(channels, width, act)
    if variant == "mobilenetv3":
        return SqueezeExcite(channels, width, "relu", "hard_sigmoid")
    return SqueezeExcite(channels, width, act, "hard_sigmoid" if variant == "fbnetv3" else "sigmoid")


def squeeze_width(variant: str, *, block_in: int, channels: int, ratio: float) -> int:
    """To how many channels a variant of squeeze-excite squeezes."""
    if variant == "mobilenetv3":
        return round_channels(channels * ratio)
    return round_channels(block_in * ratio) if variant == "fbnetv3" else max(1, int(block_in * ratio))


class DropPath(nn.Module):
    """Stochastic depth: in training, zero a whole sample's branch with probability `rate`. Huang et al. 2016."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1.0 - self.rate
        mask = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
        scaled: Tensor = x * mask.div_(keep)
        return scaled


class Residual(nn.Module):
    """x + drop_path(branch(x)), where the shapes allow a shortcut."""

    def __init__(self, branch: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.branch = branch
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = x + self.drop_path(self.branch(x))
        return total


class TruncatedConv2d(Conv2d):
    """A convolution that begins as ConvNeXt's do (Liu et al. 2022, table 5)."""

    def initialise(self) -> None:
        """Normal, standard deviation 0.02, cut off at ±2."""
        _truncated_normal(self)


class TruncatedLinear(Linear):
    """A linear layer that begins as those of transformers and ConvNeXt do."""

    def initialise(self) -> None:
        """Normal, standard deviation 0.02, cut off at ±2."""
        _truncated_normal(self)


def _truncated_normal(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.trunc_normal_(layer.weight, std=0.02)
    _zero_bias(layer)


def _zero_bias(layer: nn.Conv2d | nn.Linear) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of each pixel, [N, C, H, W] → the same shape. Ba et al. 2016."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Permute(nn.Module):
    """The axes in another order."""

    def __init__(self, *order: int) -> None:
        super().__init__()
        self.order = order

    def extra_repr(self) -> str:
        """The order."""
        return str(self.order)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)
