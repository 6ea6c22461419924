"""From a built timm block to ours, by what is in it.

timm's block strings leave much to the model's own keyword arguments, and its pruned networks have no strings at all;
the modules say everything. Whatever is in them that our block types have no field for is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from search_space import Block, InputError
from search_space.blocks.condconv import CondConv
from search_space.blocks.conv import Conv
from search_space.blocks.depthwise_separable import DepthwiseSeparable
from search_space.blocks.fused_mbconv import FusedMBConv
from search_space.blocks.mbconv import MBConv
from search_space.downsampling import BLUR, SPACE_TO_DEPTH
from search_space.layers import ACTIVATION, activation, round_channels, squeeze_width

_ACTIVATIONS = {type(activation(name)).__name__: name for name in ACTIVATION.options}
_LINEAR = _ACTIVATIONS[nn.Identity.__name__]
_HARD = {"Hardsigmoid": True, "HardSigmoid": True, "Sigmoid": False}
_USUAL_SE_RATIOS = (0.25, 0.5, 0.125, 0.0625)


class NoArchitecture(InputError):
    """A network that has something which no architecture has; `str()` names it."""

    def __init__(self, what: str) -> None:
        remedy = "use it as it is: nas show, nas compare and nas latency predict take it as a baseline"
        super().__init__(f"an architecture cannot express {what}", remedy=remedy)


def read_block(block: nn.Module, in_channels: int) -> Block:
    """Our block that computes what timm's does. Raises `NoArchitecture`."""
    reader = _READERS.get(type(block).__name__)
    if reader is None:
        raise NoArchitecture(f"timm's block type {type(block).__name__}")
    return reader(block, in_channels)


def activation_of(norm: nn.Module) -> str:
    """The activation of a batch norm with activation; raises `NoArchitecture` for other norms."""
    if type(norm).__name__ != "BatchNormAct2d":
        raise NoArchitecture(f"the norm layer {type(norm).__name__}")
    return activation_name(norm.get_submodule("act"))


def activation_name(act: nn.Module) -> str:
    """Our name of an activation module."""
    name = type(act).__name__
    if name not in _ACTIVATIONS:
        raise NoArchitecture(f"the activation {name}")
    return _ACTIVATIONS[name]


def read_conv(conv: Any, *, bias: bool = False) -> dict[str, Any]:
    """The `kernel_size`, `stride` and `padding` of a convolution."""
    name = type(conv).__name__
    if name not in ("Conv2d", "Conv2dSame"):
        raise NoArchitecture(f"the layer {name} here")
    (kernel_size, other), (stride, _) = conv.kernel_size, conv.stride
    symmetric = name == "Conv2d"
    if kernel_size != other or conv.dilation != (1, 1) or (conv.bias is not None) != bias:
        raise NoArchitecture(f"the convolution {conv}")
    if symmetric and conv.padding != ((kernel_size - 1) // 2,) * 2:
        raise NoArchitecture(f"the padding {conv.padding} of a {kernel_size}×{kernel_size} convolution")
    return {"kernel_size": kernel_size, "stride": stride, "padding": "symmetric" if symmetric else "same"}


def _pointwise(conv: Any) -> int:
    """The number of groups of a 1×1 convolution."""
    if type(conv).__name__ == "MixedConv2d":  # as many 1×1 kernels as groups
        parts = list(conv.children())
        sizes = {(part.in_channels, part.out_channels) for part in parts}
        if any(part.kernel_size != (1, 1) for part in parts) or len(sizes) > 1:
            raise NoArchitecture("a mixed convolution of other kernels than 1×1 where channels change")
        return len(parts)
    if read_conv(conv)["kernel_size"] != 1:
        raise NoArchitecture(f"an expansion or projection of {conv.kernel_size[0]}×{conv.kernel_size[1]} pixels")
    return int(conv.groups)


def _spatial(conv: Any, anti_aliasing: nn.Module) -> dict[str, Any]:
    """The fields that describe the k×k convolution."""
    if type(conv).__name__ == "MixedConv2d":
        parts = [read_conv(part) for part in conv.children()]
        sizes = [part["kernel_size"] for part in parts]
        if sizes != list(range(sizes[0], sizes[0] + 2 * len(sizes), 2)):
            raise NoArchitecture(f"a mixed convolution with kernels of {sizes} pixels: they must go up in steps of 2")
        if any(part.groups != part.in_channels for part in conv.children()):
            raise NoArchitecture("a mixed convolution that is not depthwise")
        return {**parts[0], "mixed_kernels": len(sizes)}
    fields = read_conv(conv)
    fields["group_size"] = 0 if conv.groups == 1 else conv.in_channels // conv.groups
    if type(anti_aliasing).__name__ != "Identity":
        blur: Any = anti_aliasing
        if type(blur).__name__ != "BlurPool2d" or blur.filt_size != 3 or blur.pad_mode != "constant":
            raise NoArchitecture(f"the anti-aliasing {type(blur).__name__}")
        fields |= {"downsampling": BLUR, "stride": blur.stride, "padding": "symmetric"}
    return fields


def _expansion(channels: int, expanded: int, *, left_out_at_one: bool) -> dict[str, Any]:
    """`expand_ratio` where a plain number gives the width, else `expanded_channels`."""
    for ratio in _plain_numbers(expanded / channels, usual=(round(expanded / channels),)):
        if (
            round_channels(channels * ratio) == expanded
            and 0.25 <= ratio <= 64
            and not (left_out_at_one and ratio == 1)
        ):
            return {"expand_ratio": ratio}
    return {"expanded_channels": expanded}


def _attention(attention: Any, act: str, *, block_in: int, channels: int) -> dict[str, Any]:
    """The fields of squeeze-excite."""
    name = type(attention).__name__
    if name == "Identity":
        return {}
    if name == "GlobalContext":
        width, variants = attention.mlp_scale.fc1.out_channels, _context_variant(attention, act)
    elif name == "SqueezeExcite":
        width, variants = attention.conv_reduce.out_channels, _squeeze_variants(attention, act)
    else:
        raise NoArchitecture(f"the attention {name}")
    for variant in variants:
        base = channels if variant == "mobilenetv3" else block_in
        for ratio in _plain_numbers(width / base, usual=_USUAL_SE_RATIOS):
            if 0 < ratio <= 1 and squeeze_width(variant, block_in=block_in, channels=channels, ratio=ratio) == width:
                return {"se_variant": variant, "se_ratio": ratio}
    return {"se_variant": variants[0], "se_channels": width}


def _context_variant(attention: Any, act: str) -> list[str]:
    mlp = attention.mlp_scale
    if attention.conv_attn is None or attention.mlp_add is not None or type(attention.gate).__name__ != "Sigmoid":
        raise NoArchitecture("global context with an addition, or without its own attention or sigmoid")
    if activation_name(mlp.act) != act or type(mlp.norm).__name__ != "LayerNorm2d" or mlp.norm.eps != 1e-6:
        raise NoArchitecture("global context with another activation or norm than usual")
    return ["global_context"]


def _squeeze_variants(attention: Any, act: str) -> list[str]:
    """The variants of squeeze-excite that its activation and gate allow."""
    squeeze_act, gate = activation_name(attention.act1), type(attention.gate).__name__
    if gate not in _HARD:
        raise NoArchitecture(f"squeeze-excite with the gate {gate}")
    variants = ["efficientnet"] if not _HARD[gate] and squeeze_act == act else []
    if _HARD[gate]:
        variants += [*(["mobilenetv3"] if squeeze_act == "relu" else []), *(["fbnetv3"] if squeeze_act == act else [])]
    if not variants:
        raise NoArchitecture(f"squeeze-excite with activation {squeeze_act} and gate {gate} in a block of {act}")
    return variants


def _plain_numbers(value: float, usual: Iterable[float]) -> list[float]:
    """What one would write for `value`: usual numbers, then ever more decimals."""
    return [*usual, *(round(value, digits) for digits in (2, 3, 4))]


def _shortcut(block: Any) -> dict[str, Any]:
    # Where shapes forbid a shortcut there is none in either.
    return {"shortcut": bool(block.has_skip)}


def _read_separable(block: Any, in_channels: int) -> Block:
    act = activation_of(block.bn1)
    channels, fields = _behind_space_to_depth(block, in_channels, _spatial(block.conv_dw, block.aa))
    fields |= _attention(block.se, act, block_in=in_channels, channels=channels)
    out_channels, last = block.conv_pw.out_channels, activation_of(block.bn2)
    groups = _pointwise(block.conv_pw)
    if last == _LINEAR:
        fields |= _fitting(_shortcut(block), in_channels, out_channels, fields["stride"])
        return MBConv(out_channels=out_channels, expand_ratio=1, activation=act, project_groups=groups, **fields)
    if fields.pop("group_size", 0) != 1 or groups != 1 or last != act or "downsampling" in fields or block.has_skip:
        raise NoArchitecture("a depthwise-separable convolution with activation that has groups, blur or a shortcut")
    return DepthwiseSeparable(out_channels=out_channels, activation=act, **fields)


def _behind_space_to_depth(block: Any, in_channels: int, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The channels in front of the k×k convolution, and its fields with those of the convolution before it."""
    if getattr(block, "conv_s2d", None) is None:
        return in_channels, fields
    first = block.conv_s2d
    if first.kernel_size != (2, 2) or activation_of(block.bn_s2d) != activation_of(block.bn1):
        raise NoArchitecture(f"the space-to-depth convolution {first}")
    kernel_size = 2 * fields["kernel_size"] - 1  # the only odd one of which it is the half
    return first.out_channels, {
        **fields,
        "kernel_size": kernel_size,
        "stride": 2,
        "padding": "symmetric",
        "downsampling": SPACE_TO_DEPTH,
    }


def _fitting(shortcut: dict[str, Any], in_channels: int, out_channels: int, stride: int) -> dict[str, Any]:
    """`shortcut` where it says something."""
    return shortcut if in_channels == out_channels and stride == 1 else {}


def _read_inverted(block: Any, in_channels: int) -> Block:
    act = activation_of(block.bn2)
    channels, fields = _behind_space_to_depth(block, in_channels, _spatial(block.conv_dw, block.aa))
    wide, out_channels = block.conv_pwl.in_channels, block.conv_pwl.out_channels
    _same_activation(act, block.bn1)
    _linear(block.bn3)
    return MBConv(
        out_channels=out_channels,
        activation=act,
        expand_groups=_pointwise(block.conv_pw),
        project_groups=_pointwise(block.conv_pwl),
        **fields,
        **_expansion(channels, wide, left_out_at_one=True),
        **_attention(block.se, act, block_in=in_channels, channels=wide),
        **_fitting(_shortcut(block), in_channels, out_channels, fields["stride"]),
    )


def _read_edge(block: Any, in_channels: int) -> Block:
    act = activation_of(block.bn1)
    fields = _spatial(block.conv_exp, block.aa)
    wide, out_channels = block.conv_pwl.in_channels, block.conv_pwl.out_channels
    _linear(block.bn2)
    if _pointwise(block.conv_pwl) != 1:
        raise NoArchitecture("a fused block whose projection has groups")
    return FusedMBConv(
        out_channels=out_channels,
        activation=act,
        **fields,
        **_expansion(in_channels, wide, left_out_at_one=True),
        **_attention(block.se, act, block_in=in_channels, channels=wide),
        **_fitting(_shortcut(block), in_channels, out_channels, fields["stride"]),
    )


def _read_conv_block(block: Any, in_channels: int) -> Block:
    act = activation_of(block.bn1)
    fields = _spatial(block.conv, block.aa)
    out_channels = block.conv.out_channels
    if block.has_skip or fields["group_size"] or "downsampling" in fields:
        fields |= _fitting(_shortcut(block), in_channels, out_channels, fields["stride"])
        return FusedMBConv(out_channels=out_channels, expand_ratio=1, activation=act, **fields)
    fields.pop("group_size")
    return Conv(out_channels=out_channels, activation=act, **fields)


def _read_condconv(block: Any, in_channels: int) -> Block:
    act = activation_of(block.bn2)
    wide, out_channels = block.conv_pwl.in_channels, block.conv_pwl.out_channels
    _same_activation(act, block.bn1)
    _linear(block.bn3)
    conv = block.conv_dw
    if conv.groups != wide or conv.bias is not None or block.conv_pw.kernel_size != (1, 1):
        raise NoArchitecture(f"the conditional convolution {conv}")
    stride = conv.stride[0]
    return CondConv(
        out_channels=out_channels,
        activation=act,
        kernel_size=conv.kernel_size[0],
        stride=stride,
        padding="same" if conv.dynamic_padding else "symmetric",
        num_experts=block.num_experts,
        **_expansion(in_channels, wide, left_out_at_one=False),
        **_attention(block.se, act, block_in=in_channels, channels=wide),
        **_fitting(_shortcut(block), in_channels, out_channels, stride),
    )


def _same_activation(act: str, norm: nn.Module) -> None:
    other = activation_of(norm)
    if other != act:
        raise NoArchitecture(f"a block with the activations {act} and {other}")


def _linear(norm: nn.Module) -> None:
    if activation_of(norm) != _LINEAR:
        raise NoArchitecture(f"a projection with the activation {activation_of(norm)}")


_READERS: dict[str, Callable[[Any, int], Block]] = {
    "DepthwiseSeparableConv": _read_separable,
    "InvertedResidual": _read_inverted,
    "EdgeResidual": _read_edge,
    "ConvBnAct": _read_conv_block,
    "CondConvResidual": _read_condconv,
}
