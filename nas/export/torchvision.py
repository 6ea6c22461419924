"""Configs for torchvision's two classes that are made from lists of them: `EfficientNet` and `MobileNetV3`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nas.export.base import Exporter, Job, Written
from nas.export.library import check_head, check_stem, located, numbered, write_library_model
from search_space import Architecture, InputError
from search_space.architecture import stage_rows
from search_space.foreign import NotExpressible


class Torchvision(Exporter):
    """`NAME_torchvision.py`: `create_model()` gives the network as torchvision's own class."""

    name = "torchvision"

    def check(self, architecture: Architecture) -> None:
        torchvision_source(architecture)

    def write(self, job: Job, folder: Path) -> Written:
        return write_library_model("torchvision", torchvision_source(job.architecture), job, folder)


def torchvision_source(architecture: Architecture) -> str:
    """Imports, `SETTING` and `create_model`. Raises `NotExpressible`: the first field in each family's way."""
    reasons = []
    for write in _FAMILIES:
        try:
            return write(architecture)
        except NotExpressible as error:
            reasons.append(f"{error.rule}, got {error.value!r} ({error.where})")
    raise InputError("; ".join(reasons), where="--to torchvision", remedy="--to torch can express every network")


def _efficientnet(architecture: Architecture) -> str:
    library, family = "torchvision's EfficientNet", "EfficientNet"
    _check_ends(architecture, library, "silu")
    head = check_head(library, architecture)
    with located(architecture, "head"):
        if not head.conv_channels:
            raise NotExpressible(library, "conv_channels", 0, "its head has a convolution")
        if head.hidden_channels:
            raise NotExpressible(library, "hidden_channels", head.hidden_channels)
    configs: list[str] = []
    blocks = numbered(architecture)
    for stage in architecture.stages:
        for row in stage_rows(stage):
            place, channels, block = next(blocks)
            with located(architecture, place):
                if block.stride > 2:
                    raise NotExpressible(library, "stride", block.stride, "its strides are 1 or 2")
                configs.append(block.torchvision_config(family, channels, row["num_layers"]))
            for _ in range(row["num_layers"] - 1):
                place, channels, block = next(blocks)
                with located(architecture, place):
                    block.torchvision_config(family, channels, 1)
    arguments = f"dropout={head.dropout}, stochastic_depth_prob={architecture.drop_path_rate}"
    arguments += f", last_channel={head.conv_channels}"
    return _render(architecture, family, "efficientnet", _EFFICIENTNET_ORDER, configs, arguments)


def _mobilenetv3(architecture: Architecture) -> str:
    library, family = "torchvision's MobileNetV3", "MobileNetV3"
    _check_ends(architecture, library, "hard_swish")
    head = check_head(library, architecture)
    widest = 6 * architecture.stages[-1].out_channels
    with located(architecture, "head"):
        if head.conv_channels != widest:
            raise NotExpressible(library, "conv_channels", head.conv_channels, f"it has 6 × the last width, {widest}")
        if not head.hidden_channels:
            raise NotExpressible(library, "hidden_channels", 0, "its head has a hidden layer")
    with located(architecture, ""):
        if architecture.drop_path_rate:
            raise NotExpressible(library, "drop_path_rate", architecture.drop_path_rate)
    configs = []
    for place, channels, block in numbered(architecture):
        with located(architecture, place):
            if block.stride > 2:
                raise NotExpressible(library, "stride", block.stride, "its strides are 1 or 2")
            configs.append(block.torchvision_config(family, channels, 1))
    arguments = f"dropout={head.dropout}, last_channel={head.hidden_channels}"
    return _render(architecture, family, "mobilenetv3", _MOBILENETV3_ORDER, configs, arguments)


_EFFICIENTNET_ORDER = "expand ratio, kernel, stride, input channels, output channels, layers"
_MOBILENETV3_ORDER = (
    "input channels, kernel, expanded channels, output channels, SE, activation, stride, dilation, width"
)
_FAMILIES: tuple[Callable[[Architecture], str], ...] = (_efficientnet, _mobilenetv3)


def _check_ends(architecture: Architecture, library: str, activation: str) -> None:
    """Raise `NotExpressible` unless stem and head are a family's own, as far as these can be chosen at all."""
    stem = check_stem(library, architecture)
    head = check_head(library, architecture)
    with located(architecture, ""):
        if architecture.input_channels != 3:
            raise NotExpressible(library, "input_channels", architecture.input_channels, "its images have 3")
    with located(architecture, "stem"):
        if stem.activation != activation:
            raise NotExpressible(library, "activation", stem.activation, f"its stem has {activation}")
        if stem.kernel_size != 3:
            raise NotExpressible(library, "kernel_size", stem.kernel_size, "its stem has 3")
    with located(architecture, "head"):
        if head.activation != activation:
            raise NotExpressible(library, "activation", head.activation, f"its head has {activation}")


def _render(architecture: Architecture, cls: str, home: str, order: str, configs: list[str], arguments: str) -> str:
    norm = f"partial(nn.BatchNorm2d, eps={architecture.norm_eps!r}, momentum={architecture.norm_momentum!r})"
    imports = ", ".join(sorted({config.partition("(")[0] for config in configs}))
    setting = "\n".join(f"    {config}," for config in configs)
    return f"""\
from functools import partial

from torch import nn
from torchvision.models.{home} import {cls}, {imports}

# {order}
SETTING = [
{setting}
]


def create_model(num_classes: int = {architecture.num_classes}) -> {cls}:
    norm_layer = {norm}
    return {cls}(SETTING, {arguments}, num_classes=num_classes, norm_layer=norm_layer)
"""
