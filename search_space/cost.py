"""Counted cost of a network.

Units, once and for all:

    params               learnable parameters
    macs                 multiply–adds of convolutions, linear layers and matrix products, for one image, as the papers
                         count them (batch norm, pooling, activations and biases do not count). Never "FLOPs".
    activations          elements in the outputs of those same operations, for one image (Radosavovic et al. 2020)
    peak_memory_bytes    the most that feature maps occupy at once, for one float32 image: the greatest sum, over
                         operations in order, of the tensors an operation reads, writes, or that are read later. Batch
                         norm and element-wise operations act in place, as inference engines fuse them. Weights apart.

Cost is counted by fvcore on each built part (stem, block, head), memoised by part and input shape, and summed. The sum
equals counting the whole network, because parts are joined by one tensor only.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from search_space.architecture import Architecture
from search_space.blocks import Block
from search_space.head import Head
from search_space.layers import BuildContext
from search_space.memory import peak_memory_bytes
from search_space.stem import Stem

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore still scripts a function on import
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import (
        addmm_flop_jit,
        bmm_flop_jit,
        conv_flop_jit,
        einsum_flop_jit,
        get_shape,
        linear_flop_jit,
        matmul_flop_jit,
    )

Part = Stem | Block | Head
_COUNTED: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "aten::_convolution": conv_flop_jit,
    "aten::linear": linear_flop_jit,
    "aten::addmm": addmm_flop_jit,
    "aten::matmul": matmul_flop_jit,
    "aten::mm": matmul_flop_jit,
    "aten::bmm": bmm_flop_jit,
    "aten::einsum": einsum_flop_jit,
}


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
    context = BuildContext()
    if isinstance(part, Head):
        module = part.build(in_channels, out_channels, context)
    else:
        module = part.build(in_channels, context)
    return count_module(module, (in_channels, size, size))


def count_module(module: nn.Module, input_shape: tuple[int, ...]) -> Cost:
    """Counted cost of any module for one input of `input_shape`, the batch dimension left out.

    Leaves the module in eval mode and its parameters frozen.
    """
    module = module.eval().requires_grad_(False)
    params = sum(p.numel() for p in module.parameters())
    analysis = FlopCountAnalysis(module, torch.zeros(1, *input_shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).clear_op_handles()
    for operator, macs in _COUNTED.items():
        analysis.set_op_handle(operator, functools.partial(_count_operation, macs))
    counted = analysis.by_operator()
    peak = peak_memory_bytes(module, input_shape)
    return Cost(params, int(counted["macs"]), int(counted["activations"]), peak)


def _count_operation(
    macs: Callable[[list[Any], list[Any]], Any], inputs: list[Any], outputs: list[Any]
) -> Counter[str]:
    """One traced operation, both counts at once, so that each part is traced only once."""
    counted = macs(inputs, outputs)
    total = sum(counted.values()) if isinstance(counted, Counter) else counted
    return Counter(macs=int(total), activations=math.prod(get_shape(outputs[0])))
