"""Peak activation memory of a module, from the life spans of its tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from search_space.watching import Watcher

# Not tagged point-wise by PyTorch, but folded into its neighbours by every inference engine.
FOLDED = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "batch_norm"})
# What they return beside their result is for training, or for themselves.
WITH_STATISTICS = FOLDED | {
    "native_layer_norm",
    "native_group_norm",
    "max_pool2d_with_indices",
}


@dataclass(frozen=True)
class PeakElements:
    """The most elements alive at once while a module runs."""

    alone: int
    """If nobody reads the module's input again."""
    input_kept: int
    """If somebody does, as a shortcut around the module."""


class _Recorder(Watcher):
    """Records, for each operation that runs, which storages it reads, which it writes, and whether it is in place."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.steps: list[tuple[set[int], set[int], bool]] = []
        self.sizes: dict[int, int] = {}
        self._weights = {t.untyped_storage()._cdata for t in itertools.chain(module.parameters(), module.buffers())}
        self._kept: list[Any] = []  # storages stay alive, so that their addresses stay distinct

    def storages(self, values: Any) -> Iterator[int]:
        """Identities of the feature maps in `values`."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                key = storage._cdata
                if key not in self._weights:
                    self._kept.append(storage)
                    self.sizes.setdefault(key, value.numel())
                    yield key

    def saw(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """A step."""
        name = func.overloadpacket.__name__
        folded = name in FOLDED
        written = result[0] if name in WITH_STATISTICS else result
        in_place = folded or torch.Tag.pointwise in func.tags
        self.steps.append((set(self.storages((args, kwargs))), set(self.storages(written)), in_place))


def peak_elements(
    module: nn.Module, input_shape: tuple[int, ...], new: Callable[..., Tensor] = torch.zeros
) -> tuple[PeakElements, tuple[int, ...]]:
    """Peak memory of `module` in elements for one input of `input_shape`, and the shape of its output.

    The module, in eval mode, runs once. A tensor lives from the operation that makes it to the last that reads it. At
    an operation, all that it reads and writes is alive, except that a point-wise operation writes over an input which
    nobody reads later. Attention runs as matrix products and softmax, so that its scores count as a tensor. `new` makes
    the input.
    """
    x = new(1, *input_shape)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Recorder(module) as recorder:
        output = module(x)
    (first,) = recorder.storages(x)
    (last,) = recorder.storages(output)
    end = len(recorder.steps)
    last_read = {key: step for step, (reads, writes, _) in enumerate(recorder.steps) for key in reads | writes}
    last_read[last] = end
    alone = _peak(recorder, first, last_read)
    input_kept = _peak(recorder, first, {**last_read, first: end})
    return PeakElements(alone, input_kept), tuple(output.shape[1:])


def _peak(recorder: _Recorder, first: int, last_read: dict[int, int]) -> int:
    alive = {first}
    peak = recorder.sizes[first]
    for step, (reads, writes, in_place) in enumerate(recorder.steps):
        new = writes - alive
        dying = [recorder.sizes[key] for key in reads if last_read[key] == step and key not in writes]
        alive |= new
        now = sum(recorder.sizes[key] for key in alive)
        if in_place and dying and new:
            now -= min(max(dying), max(recorder.sizes[key] for key in new))
        peak = max(peak, now)
        alive = {key for key in alive if last_read[key] > step}
    return peak
