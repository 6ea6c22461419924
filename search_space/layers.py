"""The layers that block types are made of: convolution + norm + activation, squeeze-excite, stochastic depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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

SE_VARIANTS = ("efficientnet", "mobilenetv3")
SE_VARIANT = OneOf(SE_VARIANTS)


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
) -> nn.Sequential:
    """Conv2d (no bias, padding k//2) → batch norm → activation: [N, in, H, W] → [N, out, ceil(H/s), ceil(W/s)]."""
    layers: list[nn.Module] = [
        Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        context.norm(out_channels),
    ]
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


def squeeze_excite(variant: str, *, block_in: int, channels: int, ratio: float, act: str) -> SqueezeExcite:
    """Squeeze-excite as the two families published it.

    `efficientnet` (also MnasNet): squeezes to ratio × the *block's input* channels, the block's activation, sigmoid.
    `mobilenetv3`: squeezes to ratio × the channels it stands on, rounded to 8, ReLU, hard sigmoid.
    """
    if variant == "mobilenetv3":
        return SqueezeExcite(channels, round_channels(channels * ratio), "relu", "hard_sigmoid")
    return SqueezeExcite(channels, max(1, int(block_in * ratio)), act, "sigmoid")


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
