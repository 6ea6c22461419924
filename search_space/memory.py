"""Peak activation memory of a module, from the life spans of its tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_BYTES_PER_ELEMENT = 4
# Not tagged point-wise by PyTorch, but folded into its neighbours by every inference engine.
_FOLDED = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "batch_norm"}


class _Recorder(TorchDispatchMode):
    """Records, for each operation that runs, which storages it reads and which it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[list[int], list[int], bool]] = []
        self.sizes: dict[int, int] = {}
        self._kept: list[Any] = []  # storages stay alive, so that their addresses stay distinct

    def _ids(self, values: Any) -> Iterator[int]:
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.dim() > 1:
                storage = value.untyped_storage()
                key = storage._cdata
                if key not in self.sizes:
                    self._kept.append(storage)
                    self.sizes[key] = value.numel()
                yield key

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        reads = list(self._ids((args, kwargs)))
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        in_place = torch.Tag.pointwise in func.tags or name in _FOLDED
        self.steps.append((reads, list(self._ids(result)), in_place))
        return result


def peak_memory_bytes(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """The most bytes that feature maps occupy at once, for one float32 input of `input_shape`.

    The module runs once on the meta device (shapes only). Each tensor lives from the operation that makes it to the
    last that reads it; at an operation, what it reads and what it writes are both alive, except that a point-wise
    operation writes over an input of its size which nobody reads later.
    """
    shadow = copy.deepcopy(module).to("meta").eval()
    with torch.no_grad(), _Recorder() as recorder:
        x = torch.empty(1, *input_shape, device="meta")
        recorder.steps.clear()
        shadow(x)
    last_read = {key: step for step, (reads, writes, _) in enumerate(recorder.steps) for key in (*reads, *writes)}
    alive: set[int] = set()
    peak = 0
    for step, (reads, writes, in_place) in enumerate(recorder.steps):
        alive.update(reads)
        new = [key for key in writes if key not in alive]
        taken_over = 0
        if in_place:
            dying = [recorder.sizes[key] for key in set(reads) if last_read[key] == step]
            taken_over = sum(min(recorder.sizes[key], max(dying, default=0)) for key in new[:1])
        alive.update(new)
        peak = max(peak, sum(recorder.sizes[key] for key in alive) - taken_over)
        alive = {key for key in alive if last_read[key] > step}
    return peak * _BYTES_PER_ELEMENT
