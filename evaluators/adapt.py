"""The form of a network in which it is trained as a proxy, on images far smaller than it is meant for, and briefly."""

from __future__ import annotations

import dataclasses

from torch import nn

from search_space import Architecture, Stage
from search_space.branches import Sum
from search_space.layers import Residual
from search_space.scaling import widened

# The published momenta (0.01 in MobileNetV3) average over far more steps than a proxy makes: statistics would lag.
NORM_MOMENTUM = 0.1


def proxy_form(
    architecture: Architecture, *, resolution: int, final_size: int, num_classes: int, width_mult: float = 1.0
) -> Architecture:
    """The same network for images of `resolution` pixels: fewer strides, perhaps narrower, no stochastic depth.

    Strides are dropped from the last stage backwards until the last feature map is at least `final_size` pixels high,
    since a network for 224 px leaves less than one pixel of a 16 px image. The late ones go first: the early stages
    then keep the resolutions, relative to the image, that they were designed for, and the form stays cheap.
    A block that does nothing without its stride goes with it; raises `InputError` if no block is left then.
    """
    stem, stages = architecture.stem, list(architecture.stages)
    if width_mult != 1:
        (stem,) = widened([stem], width_mult)
        stages = [Stage(widened(stage.blocks, width_mult)) for stage in stages]
    sizes = [stem.out_size(resolution)]
    if sizes[0] < final_size:
        stem, sizes = dataclasses.replace(stem, stride=1), [resolution]
    for index, stage in enumerate(stages):
        first = stage.blocks[0]
        if first.out_size(sizes[-1]) < min(final_size, sizes[-1]):
            first = dataclasses.replace(first, stride=1)
            stages[index] = Stage((first, *stage.blocks[1:]))
        sizes.append(first.out_size(sizes[-1]))
    return architecture.replace(
        stem=stem,
        stages=tuple(stages),
        resolution=resolution,
        num_classes=num_classes,
        norm_momentum=NORM_MOMENTUM,
        drop_path_rate=0.0,
    )


def silence_branches(network: nn.Module) -> None:
    """Let residual branches that end on a batch norm add nothing at first, by a scale of 0 (Goyal et al. 2017, §5.1).

    Otherwise deep networks fall behind in a short training, which long training does not hold against them.
    """
    for module in network.modules():
        if isinstance(module, (Residual, Sum)):
            last = [layer for layer in module.branch.modules() if not any(layer.children())][-1]
            if isinstance(last, nn.BatchNorm2d):
                nn.init.zeros_(last.weight)
