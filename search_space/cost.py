"""Counted cost of a network.

Units, once and for all:

    params               learnable parameters
    macs                 multiply–adds of convolutions, linear layers and matrix products (both of attention), for one
                         image, as the papers count them (batch norm, pooling, activations and biases do not count).
                         Never "FLOPs".
    activations          elements in the outputs of those same operations, for one image (Radosavovic et al. 2020)
    peak_memory_bytes    the most that feature maps occupy at once, for one float32 image: the greatest sum, over
                         operations in order, of the tensors an operation reads, writes, or that are read later. Batch
                         norm and element-wise operations act in place, as inference engines fuse them. Weights apart.

Cost is counted by fvcore on each built part (stem, block, head), memoised by part and input shape, and summed; within a
part, by layer. The sum equals counting the whole network, because parts are joined by one tensor only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import nn

from search_space.architecture import Architecture
from search_space.outline import Counted, Outline, outline_of
from search_space.parts import PartShape, parts

_BYTES_PER_ELEMENT = 4


@dataclass(frozen=True)
class Cost:
    """Counted cost of a network or a part of one; see the head of this file for units."""

    params: int
    macs: int
    activations: int
    peak_memory_bytes: int
    unseen: frozenset[str] = frozenset()
    """Operations whose multiply–adds could not be counted: `macs` lacks them."""

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


def count_cost(architecture: Architecture) -> Cost:
    """Counted cost of the whole network at its deployment resolution: the sum over its parts."""
    params = macs = activations = peak = 0
    unseen: frozenset[str] = frozenset()
    for shape in parts(architecture):
        cost = part_cost(shape)
        params += cost.params
        macs += cost.macs
        activations += cost.activations
        peak = max(peak, cost.peak_memory_bytes)
        unseen |= cost.unseen
    return Cost(params, macs, activations, peak, unseen)


@functools.lru_cache(maxsize=262_144)
def part_cost(shape: PartShape) -> Cost:
    """Counted cost of one part (memoised)."""
    params, outline = _part_outline(shape._replace(size=1))
    return _cost(params, outline.count((shape.in_channels, shape.size, shape.size)))


@functools.lru_cache(maxsize=65_536)
def _part_outline(shape: PartShape) -> tuple[int, Outline]:
    """Parameters and outline, which do not depend on the size of the input."""
    module = shape.build()
    return _count_params(module), outline_of(module.eval().requires_grad_(False))


def count_module(module: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Counted cost of any module for one input of `input_shape`, the batch dimension left out.

    Leaves the module in eval mode and its parameters frozen.
    """
    return _cost(_count_params(module), outline_of(module.eval().requires_grad_(False)).count(input_shape))


def _count_params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _cost(params: int, counted: Counted) -> Cost:
    return Cost(params, counted.macs, counted.activations, counted.peak.alone * _BYTES_PER_ELEMENT, counted.unseen)
