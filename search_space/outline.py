"""Counting a module with fvcore's formulas, layer by layer.

A module is taken apart into chains, shortcuts and layers. Layers recur: the blocks of a search space share a few
hundred of them, so that a network never seen before is counted without tracing anything.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from search_space.branches import Concat, PassOn, Sum
from search_space.layers import Residual
from search_space.memory import FOLDED, PeakElements, peak_elements
from search_space.watching import Watcher

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # fvcore still scripts a function on import
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import (
        addmm_flop_jit,
        bmm_flop_jit,
        conv_flop_count,
        conv_flop_jit,
        einsum_flop_jit,
        get_shape,
        linear_flop_jit,
        matmul_flop_jit,
    )


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Of query · keyᵀ and scores · value; [..., L, E], [..., S, E], [..., S, V] → [..., L, V]."""
    query, key, value = (get_shape(given) for given in inputs[:3])
    scores = math.prod(query[:-1]) * key[-2]
    return int(scores * (query[-1] + value[-1]))


_COUNTED: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "aten::_convolution": conv_flop_jit,
    "aten::linear": linear_flop_jit,
    "aten::addmm": addmm_flop_jit,
    "aten::baddbmm": lambda inputs, outputs: bmm_flop_jit(inputs[1:], outputs),
    "aten::matmul": matmul_flop_jit,
    "aten::mm": matmul_flop_jit,
    "aten::bmm": bmm_flop_jit,
    "aten::einsum": einsum_flop_jit,
    "aten::scaled_dot_product_attention": _attention_macs,
}
# Multiply–adds that are not counted: these of PyTorch's own, and whatever operations other packages bring.
_UNSEEN = re.compile(r"prim::PythonOp|(?!aten::|prim::).*|aten::(lstm|gru|rnn|fft_|bilinear|cdist|_native_multi)")
# Modules of these packages say all about themselves in `repr`, so that it can stand for them.
_DESCRIBED_BY_REPR = ("torch.nn.", "search_space.")
_shared: dict[tuple[type, str], Layer] = {}


@dataclass(frozen=True)
class Counted:
    """What one input costs; units as at the head of `search_space.cost`, memory in elements."""

    macs: int
    activations: int
    peak: PeakElements
    output_shape: tuple[int, ...]
    unseen: frozenset[str] = frozenset()
    """Operations with multiply–adds that could not be counted."""


class Outline(Protocol):
    """A module as far as counting goes. Shapes leave out the batch dimension."""

    def count(self, shape: tuple[int, ...]) -> Counted:
        """The cost for one input of `shape`."""
        ...


def outline_of(module: nn.Module) -> Outline:
    """Take a module (in eval mode, without gradients) apart as far as its structure is known."""
    if type(module) is nn.Sequential:
        return Chain([outline_of(layer) for layer in module])
    if type(module) is Residual:
        return Shortcut(outline_of(module.branch))
    if type(module) is Sum:
        return Branches(outline_of(module.branch), outline_of(module.shortcut), added=True)
    if type(module) is Concat:
        return Branches(outline_of(module.first), outline_of(module.second), added=False)
    if type(module) is PassOn:
        return Beside(outline_of(module.branch), kept=module.kept, begin=module.begin)
    if all(type(layer).__module__.startswith(_DESCRIBED_BY_REPR) for layer in module.modules()):
        return _shared.setdefault((type(module), repr(module)), PlainLayer(module))
    return Layer(module)


class Layer:
    """A module counted as a whole, once for each input shape."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._counted: dict[tuple[int, ...], Counted] = {}

    def count(self, shape: tuple[int, ...]) -> Counted:
        """Count, if it was not counted before."""
        if shape not in self._counted:
            self._counted[shape] = self._count(shape)
        return self._counted[shape]

    def _count(self, shape: tuple[int, ...]) -> Counted:
        return _trace(self._module, shape)


class PlainLayer(Layer):
    """A layer of PyTorch's or ours. Where convolutions are all that counts, it is not traced, but only watched at work:
    that is several times as fast."""

    def _count(self, shape: tuple[int, ...]) -> Counted:
        with _Convolutions() as seen:
            # Filling the input would take longer than many a layer.
            peak, output_shape = peak_elements(self._module, shape, torch.empty)
        if seen.others:
            return _trace(self._module, shape)
        return Counted(seen.macs, seen.activations, peak, output_shape)


# Operations without multiply–adds that count, beside point-wise ones.
_FREE = FOLDED | {
    *("empty", "zeros", "view", "constant_pad_nd", "hardswish", "hardswish_", "native_layer_norm"),
    *("mean", "_adaptive_avg_pool2d", "avg_pool2d", "max_pool2d_with_indices"),
}


class _Convolutions(Watcher):
    """Counts convolutions without computing them, and notes what else runs that might have to be counted."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = self.activations = 0
        self.others: set[str] = set()

    def run(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Of a convolution, a tensor of the right shape with anything in it: shapes are all that counts."""
        if func.overloadpacket.__name__ == "convolution":
            shape = _convolved(*args)
            if shape is not None:
                return args[0].new_empty(shape)
        return super().run(func, args, kwargs)

    def saw(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Count it, or note its name."""
        name = func.overloadpacket.__name__
        if name == "convolution" and isinstance(result, Tensor):
            self.macs += int(conv_flop_count(args[0].shape, args[1].shape, result.shape, transposed=args[6]))
            self.activations += result.numel()
        elif name not in _FREE and torch.Tag.pointwise not in func.tags:
            self.others.add(name)


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> tuple[int, ...] | None:
    """The shape of a convolution's output; None where PyTorch had better be asked, as it may refuse."""
    if transposed or min(*stride, *dilation) < 1 or min(padding) < 0 or x.dtype != weight.dtype:
        return None
    sizes = [
        (size + 2 * pad - step * (kernel - 1) - 1) // pace + 1
        for size, kernel, pace, pad, step in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    if min(sizes) < 1 or x.shape[1] != weight.shape[1] * groups:
        return None
    return (x.shape[0], weight.shape[0], *sizes)


class Chain:
    """One module after another."""

    def __init__(self, items: list[Outline]) -> None:
        self._items = items

    def count(self, shape: tuple[int, ...]) -> Counted:
        """The sum, and the highest peak: only one tensor joins the items."""
        macs = activations = alone = 0
        input_kept = kept = math.prod(shape)
        unseen: frozenset[str] = frozenset()
        for index, item in enumerate(self._items):
            counted = item.count(shape)
            macs += counted.macs
            activations += counted.activations
            alone = max(alone, counted.peak.alone)
            input_kept = max(input_kept, kept + counted.peak.alone if index else counted.peak.input_kept)
            shape = counted.output_shape
            unseen |= counted.unseen
        return Counted(macs, activations, PeakElements(alone, input_kept), shape, unseen)


class Shortcut:
    """x + branch(x)."""

    def __init__(self, branch: Outline) -> None:
        self._branch = branch

    def count(self, shape: tuple[int, ...]) -> Counted:
        """The branch, with x alive to its end; the sum is written over the branch's output."""
        branch = self._branch.count(shape)
        peak = max(branch.peak.input_kept, math.prod(shape) + math.prod(branch.output_shape))
        both = PeakElements(peak, peak)
        return Counted(branch.macs, branch.activations, both, branch.output_shape, branch.unseen)


class Branches:
    """Two branches of x, one after the other, whose outputs are added or concatenated along the channels."""

    def __init__(self, first: Outline, second: Outline, *, added: bool) -> None:
        self._first = first
        self._second = second
        self._added = added

    def count(self, shape: tuple[int, ...]) -> Counted:
        """Both; the first one's output is alive while the second runs. A sum is written over one of them."""
        first, second = self._first.count(shape), self._second.count(shape)
        channels, *size = first.output_shape
        both = math.prod(first.output_shape) + math.prod(second.output_shape)
        joined = both if self._added else 2 * both
        waiting = math.prod(first.output_shape)
        alone = max(first.peak.input_kept, waiting + second.peak.alone, joined)
        kept = max(first.peak.input_kept, waiting + second.peak.input_kept, math.prod(shape) + joined)
        output_shape = (channels if self._added else channels + second.output_shape[0], *size)
        macs, activations = first.macs + second.macs, first.activations + second.activations
        return Counted(macs, activations, PeakElements(alone, kept), output_shape, first.unseen | second.unseen)


class Beside:
    """The first `kept` channels of x beside the branch's output; the branch reads x from channel `begin` on."""

    def __init__(self, branch: Outline, *, kept: int, begin: int) -> None:
        self._branch = branch
        self._kept = kept
        self._begin = begin

    def count(self, shape: tuple[int, ...]) -> Counted:
        """The branch, with all of x alive until both are written side by side."""
        channels, *size = shape
        read = (channels - self._begin, *size)
        branch = self._branch.count(read)
        output_shape = (self._kept + branch.output_shape[0], *size)
        whole = math.prod(shape)
        joining = whole + math.prod(branch.output_shape) + math.prod(output_shape)
        peak = max(whole - math.prod(read) + branch.peak.input_kept, joining)
        return Counted(branch.macs, branch.activations, PeakElements(peak, peak), output_shape, branch.unseen)


def _trace(module: nn.Module, shape: tuple[int, ...]) -> Counted:
    analysis = FlopCountAnalysis(module, torch.zeros(1, *shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).clear_op_handles()
    for operator, macs in _COUNTED.items():
        analysis.set_op_handle(operator, functools.partial(_count_operation, macs))
    with _attention_in_parts():
        counted = analysis.by_operator()
        peak, output_shape = peak_elements(module, shape)
    unseen = frozenset(name for name in analysis.unsupported_ops() if _UNSEEN.match(name))
    return Counted(int(counted["macs"]), int(counted["activations"]), peak, output_shape, unseen)


@contextlib.contextmanager
def _attention_in_parts() -> Iterator[None]:
    """PyTorch runs whole attention layers as one operation at inference, which would hide what is in them."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _count_operation(
    macs: Callable[[list[Any], list[Any]], Any], inputs: list[Any], outputs: list[Any]
) -> Counter[str]:
    """One traced operation, both counts at once, so that each layer is traced only once."""
    counted = macs(inputs, outputs)
    total = sum(counted.values()) if isinstance(counted, Counter) else counted
    return Counter(macs=int(total), activations=math.prod(get_shape(outputs[0])))
