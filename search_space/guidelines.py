"""ShuffleNetV2's four practical guidelines as figures of a built part (Ma et al. 2018, arXiv:1807.11164, section 2).

A module runs once on PyTorch's `meta` device, which computes shapes only, and each operation that it runs is recorded.
So the figures hold for any block type. Memory access is what operations read and write, weights included, in float32;
batch norm is taken for folded into its convolution. The paper calls it MAC; here `macs` are multiply–adds alone.

    G1  equal channel widths minimise memory access     of 1×1 convolutions and linear layers: their memory access over
                                                        the least at the same multiply–adds and pixels
    G2  excessive group convolution increases it        of grouped convolutions (depthwise ones belong to G4): their
                                                        memory access over that of one group at the same multiply–adds
    G3  fragmentation reduces parallelism               convolutions, matrix products and pools; and how many of them
                                                        the longest chain has: the others stand beside it
    G4  element-wise operations are not negligible      their share of the memory access, and that of depthwise
                                                        convolutions, which the paper counts as element-wise, too
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from search_space.memory import FOLDED, WITH_STATISTICS
from search_space.parts import PartShape
from search_space.watching import Watcher

BYTES_PER_ELEMENT = 4
# From where on a figure is worth a remark. The paper gives no thresholds; these are ours.
NOTABLE_EXCESS = 1.1
NOTABLE_BESIDE = 2
NOTABLE_SHARE = 0.5

_MATRIX_PRODUCTS = {"mm": (0, 1), "addmm": (1, 2), "bmm": (0, 1), "baddbmm": (1, 2)}
"""Name -> which arguments are the factors."""
_POOLS = {"max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "mean"}


@dataclass(frozen=True)
class Operation:
    """One operation that ran: its `kind`, and counts of elements and multiply–adds for one image."""

    kind: str
    """`convolution`, `depthwise`, `matrix product`, `pool` or `element-wise`."""
    macs: int
    accessed: int
    """Elements read and written."""
    rank: int
    """How many operations that are not element-wise its result depends on, itself included, in the longest chain."""
    widths: tuple[int, int] = (0, 0)
    """Input and output channels, of 1×1 convolutions and linear layers without groups."""
    least_accessed: float = 0.0
    """What it would access at best: with equal widths if it has `widths`, with one group if it has groups."""
    groups: int = 1


@dataclass(frozen=True)
class Guidelines:
    """The figures of a part; see the head of this file. Excesses are at least 1, which is best."""

    macs: int
    memory_access_bytes: int
    width_excess: float
    widths: tuple[int, int]
    """Narrowest and widest end of its 1×1 convolutions and linear layers; (0, 0) if it has none."""
    group_excess: float
    groups: int
    """The most groups of a convolution that is not depthwise."""
    operations: int
    longest_chain: int
    element_wise_share: float
    """Without depthwise convolutions."""
    depthwise_share: float

    @property
    def suggestions(self) -> list[str]:
        """What the guidelines suggest where a figure is notable, each in a sentence."""
        found = []
        if self.width_excess >= NOTABLE_EXCESS:
            narrow, wide = self.widths
            found.append(
                f"G1: 1×1 convolutions between {narrow} and {wide} channels access {self.width_excess:.2f} times the "
                "memory that equal widths would at the same multiply–adds; bring the widths closer"
            )
        if self.group_excess >= NOTABLE_EXCESS:
            found.append(
                f"G2: {self.groups} groups access {self.group_excess:.2f} times the memory that one group would at the "
                "same multiply–adds; use fewer groups and a narrower output"
            )
        beside = self.operations - self.longest_chain
        if beside >= NOTABLE_BESIDE:
            found.append(
                f"G3: {beside} of {self.operations} operations stand beside the longest chain; fewer branches keep a "
                "parallel device busier"
            )
        if self.element_wise_share + self.depthwise_share >= NOTABLE_SHARE:
            found.append(
                f"G4: {self.element_wise_share:.0%} of the memory access is element-wise, {self.depthwise_share:.0%} "
                "depthwise; drop activations, additions and copies that are not needed"
            )
        return found


def part_guidelines(shape: PartShape) -> Guidelines:
    """The figures of one part of a network at its input size."""
    return _figures(operations(shape))


def operations(shape: PartShape) -> list[Operation]:
    """The operations that a part runs, in order, in eval mode."""
    with torch.device("meta"):
        module = shape.build().eval().requires_grad_(False)
        x = torch.empty(1, shape.in_channels, shape.size, shape.size)
    with torch.no_grad(), _Recorder() as recorder:
        module(x)
    ran: list[Operation] = recorder.operations
    return ran


def _figures(operations: Sequence[Operation]) -> Guidelines:
    accessed = sum(one.accessed for one in operations)
    ends = [width for one in operations for width in one.widths if width]
    grouped = [one for one in operations if one.groups > 1]
    main = [one for one in operations if one.kind != "element-wise"]
    return Guidelines(
        macs=sum(one.macs for one in operations),
        memory_access_bytes=accessed * BYTES_PER_ELEMENT,
        width_excess=_excess([one for one in operations if any(one.widths)]),
        widths=(min(ends), max(ends)) if ends else (0, 0),
        group_excess=_excess(grouped),
        groups=max((one.groups for one in grouped), default=1),
        operations=len(main),
        longest_chain=max((one.rank for one in main), default=0),
        element_wise_share=_share(operations, "element-wise", accessed),
        depthwise_share=_share(operations, "depthwise", accessed),
    )


def _excess(operations: Sequence[Operation]) -> float:
    least = sum(one.least_accessed for one in operations)
    return sum(one.accessed for one in operations) / least if least else 1.0


def _share(operations: Sequence[Operation], kind: str, accessed: int) -> float:
    return sum(one.accessed for one in operations if one.kind == kind) / accessed if accessed else 0.0


class _Recorder(Watcher):
    """Records the operations that run. What only looks at a tensor in another way is none."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._ranks: dict[int, int] = {}
        self._kept: list[Any] = []  # storages stay alive, so that their addresses stay distinct

    def saw(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """An operation, or another look at a tensor."""
        name = func.overloadpacket.__name__
        read = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        written = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        written = written[:1] if name in WITH_STATISTICS else written
        if not read or not written:
            return
        own = {self._storage(value) for value in read}
        rank = max(self._ranks.get(storage, 0) for storage in own)
        is_view = not func._schema.is_mutable and all(self._storage(value) in own for value in written)
        if not is_view and name not in FOLDED:
            accessed = sum(value.numel() for value in (*read, *written))
            operation = _operation(name, args, written[0], accessed, rank)
            rank = operation.rank
            self.operations.append(operation)
        for value in written:
            storage = self._storage(value)
            self._ranks[storage] = max(rank, self._ranks.get(storage, 0))

    def _storage(self, value: Tensor) -> int:
        storage = value.untyped_storage()
        self._kept.append(storage)
        return int(storage._cdata)


def _operation(name: str, args: Sequence[Any], out: Tensor, accessed: int, rank: int) -> Operation:
    if name == "convolution":
        return _convolution(args, out, accessed, rank + 1)
    if name in _MATRIX_PRODUCTS:
        one, other = (args[index] for index in _MATRIX_PRODUCTS[name])
        macs = one.numel() * other.shape[-1]
        if name in ("bmm", "baddbmm"):  # of feature maps with one another, as in attention
            return Operation("matrix product", macs, accessed, rank + 1)
        pixels, widths = one.shape[0], (one.shape[1], other.shape[1])
        return Operation("matrix product", macs, accessed, rank + 1, widths, _least(pixels, macs, accessed, *widths))
    if name in _POOLS:
        return Operation("pool", 0, accessed, rank + 1)
    return Operation("element-wise", 0, accessed, rank)


def _convolution(args: Sequence[Any], out: Tensor, accessed: int, rank: int) -> Operation:
    x, weight, groups = args[0], args[1], args[8]
    pixels, inputs, outputs = out.shape[2] * out.shape[3], x.shape[1], out.shape[1]
    macs = pixels * weight.numel()
    if groups > 1:
        if groups == inputs:
            return Operation("depthwise", macs, accessed, rank)
        # One group has as many multiply–adds, and weights, with an output that is `groups` times as narrow.
        least = accessed - pixels * (outputs - outputs / groups)
        return Operation("convolution", macs, accessed, rank, least_accessed=least, groups=groups)
    if weight.shape[2:] != (1, 1) or x.shape[2:] != out.shape[2:]:
        return Operation("convolution", macs, accessed, rank)
    widths = (inputs, outputs)
    return Operation("convolution", macs, accessed, rank, widths, _least(pixels, macs, accessed, *widths))


def _least(pixels: int, macs: int, accessed: int, inputs: int, outputs: int) -> float:
    """`accessed`, were both widths the geometric mean of what they are: as many multiply–adds and weights."""
    return accessed - pixels * (inputs + outputs) + 2 * pixels * math.sqrt(macs / pixels)
