"""PyTorch, eager, on the CPU or on CUDA."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latency.conditions import Conditions
from latency.runtimes.base import Runtime, Timed, TimedParts
from search_space import Architecture, InputError, build_model
from search_space.network import initialise
from search_space.parts import PartShape


class TorchRuntime(Runtime):
    """`module(x)` under `torch.inference_mode()`.

    CPU: wall time. CUDA: wholes by wall time from an idle device to an idle device; parts by events in the stream, so
    that nothing waits between them.
    """

    name = "torch"

    @classmethod
    def versions(cls) -> dict[str, str]:
        # A TorchVersion is text to nobody but Python.
        return {"torch": str(torch.__version__), **({"cuda": str(torch.version.cuda)} if torch.version.cuda else {})}

    @classmethod
    def check(cls, conditions: Conditions) -> None:
        if torch.device(conditions.device).type not in ("cpu", "cuda"):
            raise InputError("the torch runtime measures on cpu and cuda", conditions.device, remedy="use --device cpu")

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        threads = torch.get_num_threads()
        torch.set_num_threads(self.conditions.threads)
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.set_num_threads(threads)

    def open(self, architecture: Architecture) -> Timed:
        size = architecture.resolution
        return self.open_module(build_model(architecture), (architecture.input_channels, size, size))

    def open_module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Timed:
        channels, size, _ = input_shape
        return _Whole(self._ready(module), self._input(channels, size), self._synchronise())

    def open_parts(self, architecture: Architecture) -> TimedParts:
        network = build_model(architecture)
        row = [self._ready(module) for module in (network.stem, *network.blocks, network.head)]
        x = self._input(architecture.input_channels, architecture.resolution)
        return _CudaParts(row, x) if self._is_cuda else _CpuParts(row, x)

    def open_alone(self, shape: PartShape) -> Timed:
        module = shape.build()
        initialise(module)
        return _Whole(self._ready(module), self._input(shape.in_channels, shape.size), self._synchronise())

    @property
    def _is_cuda(self) -> bool:
        return torch.device(self.conditions.device).type == "cuda"

    def _synchronise(self) -> Callable[[], None]:
        return (lambda: torch.cuda.synchronize(self.conditions.device)) if self._is_cuda else (lambda: None)

    @property
    def _memory_format(self) -> torch.memory_format:
        channels_last = self.conditions.memory_format == "channels_last"
        return torch.channels_last if channels_last else torch.contiguous_format

    def _ready(self, module: nn.Module) -> nn.Module:
        dtype = getattr(torch, self.conditions.dtype)
        return module.eval().to(self.conditions.device, dtype).to(memory_format=self._memory_format)

    def _input(self, channels: int, size: int) -> Tensor:
        x = torch.randn(self.conditions.batch, channels, size, size)
        dtype = getattr(torch, self.conditions.dtype)
        return x.to(self.conditions.device, dtype).to(memory_format=self._memory_format)


class _Whole(Timed):
    def __init__(self, module: nn.Module, x: Tensor, synchronise: Callable[[], None]) -> None:
        self._module, self._x, self._synchronise = module, x, synchronise

    def run(self) -> float:
        self._synchronise()
        started = time.perf_counter()
        self._module(self._x)
        self._synchronise()
        return (time.perf_counter() - started) * 1e3


class _CpuParts(TimedParts):
    def __init__(self, row: list[nn.Module], x: Tensor) -> None:
        self._row, self._x = row, x
        self._clocks: list[list[float]] = []

    def run(self) -> None:
        x, clocks = self._x, [time.perf_counter()]
        for module in self._row:
            x = module(x)
            clocks.append(time.perf_counter())
        self._clocks.append(clocks)

    def times_ms(self) -> NDArray[np.float64]:
        return np.diff(np.asarray(self._clocks), axis=1) * 1e3


class _CudaParts(TimedParts):
    def __init__(self, row: list[nn.Module], x: Tensor) -> None:
        self._row, self._x = row, x
        self._events: list[list[torch.cuda.Event]] = []

    def run(self) -> None:
        x, events = self._x, [_event() for _ in range(len(self._row) + 1)]
        stream = torch.cuda.current_stream(x.device)
        stream.synchronize()
        events[0].record(stream)
        for module, event in zip(self._row, events[1:], strict=True):
            x = module(x)
            event.record(stream)
        stream.synchronize()
        self._events.append(events)

    def times_ms(self) -> NDArray[np.float64]:
        return np.asarray([[a.elapsed_time(b) for a, b in itertools.pairwise(run)] for run in self._events])


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
