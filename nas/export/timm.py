"""Block strings and keyword arguments for timm's EfficientNet builder.

Its two networks differ in the head: `EfficientNet` ends on a 1×1 convolution and the classifier, `MobileNetV3` has a
further layer after the pool. Both use one activation for stem and head, and one kind of squeeze-excite throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nas.export.base import Exporter, Job, Written
from nas.export.library import check_head, check_stem, located, numbered, write_library_model
from search_space import Architecture
from search_space.component import plain_number
from search_space.foreign import NotExpressible, Squeeze, TimmBlock
from search_space.layers import round_channels

_ACTIVATIONS = {"relu": "re", "relu6": "r6", "hard_swish": "hs", "silu": "sw"}
"""Activations that a block string can name."""
_MAX_STRIDE = 32
"""Beyond it, the builder takes strides for dilations."""


@dataclass(frozen=True)
class _Attention:
    """How timm is told of a variant of squeeze-excite. `source` "" is its default."""

    source: str
    round_to_8: bool
    of_expanded: bool
    """Whether the ratio is one of the expanded channels."""


_VARIANTS = {
    "efficientnet": _Attention("", False, False),
    "mobilenetv3": _Attention(
        'partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU, rd_round_fn=round_channels)',
        True,
        True,
    ),
    "fbnetv3": _Attention('partial(SqueezeExcite, gate_layer="hard_sigmoid", rd_round_fn=round_channels)', True, False),
}


class Timm(Exporter):
    """`NAME_timm.py`: `create_model()` gives the network as timm's own class."""

    name = "timm"
    packages: ClassVar[Mapping[str, str]] = {"timm": "timm"}

    def check(self, architecture: Architecture) -> None:
        timm_source(architecture)
        super().check(architecture)

    def write(self, job: Job, folder: Path) -> Written:
        return write_library_model("timm", timm_source(job.architecture), job, folder)


def timm_source(architecture: Architecture) -> str:
    """Imports, `ARCH_DEF`, `KWARGS` and `create_model`. Raises `NotExpressible`, naming the field."""
    stem = check_stem("timm", architecture)
    head = check_head("timm", architecture)
    hidden = head.hidden_channels > 0
    with located(architecture, "head"):
        if "activation" not in head.unused_fields() and head.activation != stem.activation:
            raise NotExpressible("timm", "activation", head.activation, "its head has the stem's activation")
    with located(architecture, "stem"):
        if hidden and stem.kernel_size != 3:
            raise NotExpressible("timm", "kernel_size", stem.kernel_size, "before such a head its stem has 3")
    with located(architecture, "stages"):
        if architecture.total_stride > _MAX_STRIDE:
            raise NotExpressible("timm", "stride", architecture.total_stride, f"all together are at most {_MAX_STRIDE}")
    variant = _variant(architecture)
    of_expanded = hidden and variant is not None and variant.of_expanded
    definition = _definition(architecture, stem.activation, variant, of_expanded)
    drop_path = architecture.drop_path_rate
    if hidden and head.conv_channels:
        definition.append([f"cn_r1_k1_s1_c{head.conv_channels}"])
        blocks = sum(1 for _ in architecture.blocks)
        drop_path *= (blocks + 1) / blocks  # timm counts the convolution as a block
    norm = f"eps={architecture.norm_eps!r}, momentum={architecture.norm_momentum!r}"
    kwargs = {
        "stem_size": stem.out_channels,
        "fix_stem": True,
        **({} if stem.kernel_size == 3 else {"stem_kernel_size": stem.kernel_size}),
        "num_features": head.hidden_channels or head.conv_channels,
        "act_layer": f"get_act_layer({stem.activation!r})",
        "norm_layer": f"partial(nn.BatchNorm2d, {norm})",
        **({"se_layer": variant.source} if variant is not None and variant.source else {}),
        **({"se_from_exp": of_expanded} if hidden else {}),
        **(
            {}
            if _all_of_8(architecture, head.conv_channels)
            else {"round_chs_fn": "partial(round_channels, multiplier=0)"}
        ),
        "drop_rate": head.dropout,
        "drop_path_rate": drop_path,
        "num_classes": architecture.num_classes,
        "in_chans": architecture.input_channels,
    }
    cls, home = ("MobileNetV3", "mobilenetv3") if hidden else ("EfficientNet", "efficientnet")
    stages = "\n".join(f"    [{', '.join(map(_quoted, stage))}]," for stage in definition)
    return f"""\
from functools import partial

from timm.layers import get_act_layer
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.{home} import {cls}
from torch import nn

ARCH_DEF = [
{stages}
]
KWARGS = dict(
{"".join(f"    {name}={value}," + chr(10) for name, value in kwargs.items())})


def create_model(**changes) -> {cls}:
    \"\"\"The network; `changes` replace keyword arguments, as `num_classes`.\"\"\"
    return {cls}(block_args=decode_arch_def(ARCH_DEF), **{{**KWARGS, **changes}})
"""


def _quoted(text: str) -> str:
    return f'"{text}"'


def _all_of_8(architecture: Architecture, conv_channels: int) -> bool:
    """Whether timm's rounding of channels leaves them as they are."""
    widths = [architecture.stem.out_channels, conv_channels, *(block.out_channels for block in architecture.blocks)]
    return all(round_channels(width) == width for width in widths if width)


def _variant(architecture: Architecture) -> _Attention | None:
    """The squeeze-excite that all blocks share, if any has one."""
    found: str | None = None
    for place, channels, block in numbered(architecture):
        with located(architecture, place):
            squeeze = block.timm_block(channels).squeeze
            if squeeze is None:
                continue
            if squeeze.variant not in _VARIANTS:
                raise NotExpressible("timm", "se_variant", squeeze.variant)
            if found not in (None, squeeze.variant):
                why = f"all squeeze-excite is of one variant, here {found}"
                raise NotExpressible("timm", "se_variant", squeeze.variant, why)
            found = squeeze.variant
    return None if found is None else _VARIANTS[found]


def _definition(
    architecture: Architecture, default: str, variant: _Attention | None, of_expanded: bool
) -> list[list[str]]:
    """Block strings, stage by stage; equal ones share a string, whose stride is that of its first block."""
    rows: list[list[tuple[str, str, int, int]]] = []
    blocks = numbered(architecture)
    for stage in architecture.stages:
        rows.append([])
        for _ in stage.blocks:
            place, channels, block = next(blocks)
            with located(architecture, place):
                if block.stride > 2:
                    raise NotExpressible("timm", "stride", block.stride, "its strides are 1 or 2")
                before, after = _words(block.timm_block(channels), block.out_channels, default, variant, of_expanded)
            if rows[-1] and rows[-1][-1][:2] == (before, after):
                _, _, stride, repeats = rows[-1].pop()
                rows[-1].append((before, after, stride, repeats + 1))
            else:
                rows[-1].append((before, after, block.stride, 1))
    return [[f"{a.replace('_', f'_r{n}_', 1)}_s{s}{b}" for a, b, s, n in stage] for stage in rows]


def _words(
    block: TimmBlock, channels: int, default: str, variant: _Attention | None, of_expanded: bool
) -> tuple[str, str]:
    """What stands in front of the stride and behind it: `ir_k3`, `_e6_c24_se0.25_nre`."""
    text = "" if block.expand_ratio is None else f"_e{plain_number(block.expand_ratio)}"
    text += f"_c{channels}"
    if block.squeeze is not None and variant is not None:
        text += f"_se{_ratio(block.squeeze, block.expand_ratio or 1.0, variant, of_expanded)}"
    text += block.suffix
    if block.activation != default:
        if block.activation not in _ACTIVATIONS:
            raise NotExpressible("timm", "activation", block.activation, "its block strings have no word for it")
        text += f"_n{_ACTIVATIONS[block.activation]}"
    return f"{block.kind}_k{block.kernel_size}", text


def _ratio(squeeze: Squeeze, expand_ratio: float, variant: _Attention, of_expanded: bool) -> str:
    """A ratio from which timm makes the same squeeze channels: the block's own, if it will do."""
    scale = 1.0 if of_expanded else expand_ratio
    exact = squeeze.squeeze_channels / squeeze.channels * scale
    for ratio in (squeeze.ratio, squeeze.ratio * expand_ratio, exact):
        width = squeeze.channels * (ratio / scale)
        if (round_channels(width) if variant.round_to_8 else round(width)) == squeeze.squeeze_channels:
            return str(plain_number(ratio))
    raise NotExpressible("timm", "se_ratio", squeeze.ratio, "its squeeze channels are multiples of 8")
