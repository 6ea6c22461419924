"""The form of a network in which it is trained as a proxy, on images far smaller than it is meant for."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from search_space import Architecture, Stage
from search_space.feature_map_part import FeatureMapPart
from search_space.layers import round_channels

_Part = TypeVar("_Part", bound=FeatureMapPart)

# The published momenta (0.01 in MobileNetV3) average over far more steps than a proxy makes: statistics would lag.
_NORM_MOMENTUM = 0.1


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
        stem = _widened(stem, width_mult)
        stages = [Stage(tuple(_widened(block, width_mult) for block in stage.blocks)) for stage in stages]
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
        norm_momentum=_NORM_MOMENTUM,
        drop_path_rate=0.0,
    )


def _widened(part: _Part, width_mult: float) -> _Part:
    widths = {name: round_channels(getattr(part, name) * width_mult) for name in part.width_fields}
    return dataclasses.replace(part, **widths)
