"""Counted cost of a network.

Units, once and for all:

    params               learnable parameters
    macs                 multiply–adds of convolutions, linear layers and matrix products, for one image, as the papers
                         count them (batch norm, pooling, activations and biases do not count). Never "FLOPs".
    activations          elements in the outputs of those same operations, for one image (Radosavovic et al. 2020)
    peak_memory_bytes    the most that feature maps occupy at once, for one float32 image: the greatest sum, over
                         operations in order, of the tensors an operation reads, writes, or that are read later. Batch
                         norm and element-wise operations act in place, as inference engines fuse them. Weights apart.

Cost is counted by fvcore on each built part (stem, block, head), memoised by part and input shape, and summed; within a
part, by layer. The sum equals counting the whole network, because parts are joined by one tensor only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from search_space.architecture import Architecture
from search_space.blocks import Block
from search_space.head import Head
from search_space.layers import BuildContext
from search_space.outline import Counted, Outline, outline_of
from search_space.stem import Stem

Part = Stem | Block | Head
_BYTES_PER_ELEMENT = 4


@dataclass(frozen=True)
class Cost:
    """Counted cost of a network or a part of one; see the head of this file for units."""

    params: int
    macs: int
    activations: int
    peak_memory_bytes: int

    @property
    def memory_mb(self) -> float:
        """`peak_memory_bytes` in megabytes (10⁶ bytes)."""
        return self.peak_memory_bytes / 1e6

    def metrics(self) -> dict[str, float]:
        """Under the names that constraints and trials use."""
        return {
            "params": self.params,
            "macs": self.macs,
            "activations": self.activations,
            "memory_mb": self.memory_mb,
        }


@dataclass(frozen=True)
class PartShape:
    """A part of a network with its input: `part` reads [1, in_channels, size, size]. `size` is in pixels."""

    name: str
    part: Part
    in_channels: int
    size: int
    out_channels: int


def parts(architecture: Architecture) -> Iterator[PartShape]:
    """Stem, blocks and head with their input shapes, in order."""
    size, channels = architecture.resolution, architecture.input_channels
    stem = architecture.stem
    yield PartShape("stem", stem, channels, size, stem.out_channels)
    size, channels = stem.out_size(size), stem.out_channels
    for index, block in enumerate(architecture.blocks):
        yield PartShape(f"blocks.{index}", block, channels, size, block.out_channels)
        size, channels = block.out_size(size), block.out_channels
    yield PartShape("head", architecture.head, channels, size, architecture.num_classes)


def count_cost(architecture: Architecture) -> Cost:
    """Counted cost of the whole network at its deployment resolution: the sum over its parts."""
    params = macs = activations = peak = 0
    size, channels = architecture.resolution, architecture.input_channels
    stem = architecture.stem
    costs = [_part_cost(stem, channels, size, stem.out_channels)]
    size, channels = stem.out_size(size), stem.out_channels
    for stage in architecture.stages:
        for block in stage.blocks:
            costs.append(_part_cost(block, channels, size, block.out_channels))
            size, channels = block.out_size(size), block.out_channels
    costs.append(_part_cost(architecture.head, channels, size, architecture.num_classes))
    for cost in costs:
        params += cost.params
        macs += cost.macs
        activations += cost.activations
        peak = max(peak, cost.peak_memory_bytes)
    return Cost(params, macs, activations, peak)


def part_cost(shape: PartShape) -> Cost:
    """Counted cost of one part (memoised)."""
    return _part_cost(shape.part, shape.in_channels, shape.size, shape.out_channels)


@functools.lru_cache(maxsize=262_144)
def _part_cost(part: Part, in_channels: int, size: int, out_channels: int) -> Cost:
    params, outline = _part_outline(part, in_channels, out_channels)
    return _cost(params, outline.count((in_channels, size, size)))


@functools.lru_cache(maxsize=65_536)
def _part_outline(part: Part, in_channels: int, out_channels: int) -> tuple[int, Outline]:
    context = BuildContext()
    if isinstance(part, Head):
        module = part.build(in_channels, out_channels, context)
    else:
        module = part.build(in_channels, context)
    return _count_params(module), outline_of(module.eval().requires_grad_(False))


def count_module(module: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Counted cost of any module for one input of `input_shape`, the batch dimension left out.

    Leaves the module in eval mode and its parameters frozen.
    """
    return _cost(_count_params(module), outline_of(module.eval().requires_grad_(False)).count(input_shape))


def _count_params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _cost(params: int, counted: Counted) -> Cost:
    return Cost(params, counted.macs, counted.activations, counted.peak.alone * _BYTES_PER_ELEMENT)
