"""The torch runtime: its conditions, and what is called in which order on CUDA, which is not at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import part_times, whole_times
from torch import Tensor, nn

from latency import conditions_here, make_runtime
from latency.runtimes.torch import TorchRuntime, _CudaParts
from search_space import Architecture, InputError
from search_space.parts import parts

pytestmark = pytest.mark.usefixtures("four_processors")


@pytest.mark.parametrize(
    "conditions",
    [{"memory_format": "channels_last"}, {"dtype": "bfloat16"}, {"batch": 2}, {"threads": 2}],
    ids=lambda conditions: next(iter(conditions)),
)
def test_torch_runs_under_the_conditions(conditions: dict[str, Any], network: Architecture) -> None:
    runtime = make_runtime(conditions_here("torch", **conditions))
    seen: list[tuple[Tensor, int]] = []
    weights: list[Tensor] = []

    def spy(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append((given[0], torch.get_num_threads()))
        if isinstance(module, nn.Conv2d) and module.in_channels == network.input_channels:
            weights.append(module.weight)

    handle = nn.modules.module.register_module_forward_pre_hook(spy)
    try:
        whole_times(runtime, network, 1)
        of_whole = len(seen)
        part_times(runtime, network, 1)
        with runtime.session():
            runtime.open_alone(parts(network)[2]).run()
    finally:
        handle.remove()
    for x, threads in (seen[0], seen[of_whole], seen[-1]):
        assert x.dtype == getattr(torch, runtime.conditions.dtype)
        assert x.shape[0] == runtime.conditions.batch
        assert threads == runtime.conditions.threads
    assert len(weights) == 2
    for x in (seen[0][0], seen[of_whole][0], *weights):
        channels_last = runtime.conditions.memory_format == "channels_last"
        assert x.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_torch_measures_deployed_networks(network: Architecture) -> None:
    """Without gradients, in eval mode, activations at an ordinary scale."""
    outputs: list[tuple[bool, Tensor]] = []

    def spy(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        outputs.append((module.training, output))

    handle = nn.modules.module.register_module_forward_hook(spy)
    try:
        part_times(make_runtime(conditions_here("torch")), network, 1)
    finally:
        handle.remove()
    assert outputs
    for training, output in outputs:
        assert not training
        assert output.is_inference()
        assert torch.isfinite(output).all()
        assert 1e-6 < output.abs().max() < 1e6


# CUDA, which is not at hand: what is called, in which order.


class FakeCuda:
    """Events and streams of a device on which each module takes as many ms as it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.now_ms = 0.0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cuda = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, stream: object) -> None:
                assert stream is cuda
                cuda.calls.append("event")
                self.ms = cuda.now_ms

            def elapsed_time(self, later: Event) -> float:
                return later.ms - self.ms

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: cuda)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: cuda.calls.append(f"synchronise {device}"))
        monkeypatch.setattr(TorchRuntime, "_ready", lambda runtime, module: module.eval())
        monkeypatch.setattr(
            TorchRuntime, "_input", lambda runtime, channels, size: torch.randn(1, channels, size, size)
        )

    def synchronize(self) -> None:
        self.calls.append("synchronise")

    def module(self, name: str, ms: float) -> nn.Module:
        cuda = self

        class Module(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                cuda.calls.append(name)
                cuda.now_ms += ms
                return x

        return Module()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    made = FakeCuda()
    made.install(monkeypatch)
    return made


def test_parts_on_cuda_are_timed_by_events_without_waiting_in_between(cuda: FakeCuda) -> None:
    opened = _CudaParts([cuda.module("a", 2.0), cuda.module("b", 3.5)], torch.zeros(1))
    opened.run()
    assert cuda.calls == ["synchronise", "event", "a", "event", "b", "event", "synchronise"]
    opened.run()
    assert np.array_equal(opened.times_ms(), [[2.0, 3.5], [2.0, 3.5]])


def test_wholes_on_cuda_are_timed_from_idle_to_idle(cuda: FakeCuda, network: Architecture) -> None:
    conditions = conditions_here("torch")
    runtime = TorchRuntime(type(conditions)("torch", "Fake GPU", "cuda:1"))
    for opened in (runtime.open(network), runtime.open_alone(parts(network)[0])):
        cuda.calls.clear()
        handle = nn.modules.module.register_module_forward_hook(lambda *_: cuda.calls.append("run"))
        try:
            assert opened.run() > 0
        finally:
            handle.remove()
        assert cuda.calls[0] == cuda.calls[-1] == "synchronise cuda:1"
        assert set(cuda.calls[1:-1]) == {"run"}


def test_parts_on_cuda_are_those_of_the_network(cuda: FakeCuda, network: Architecture) -> None:
    conditions = conditions_here("torch")
    runtime = TorchRuntime(type(conditions)("torch", "Fake GPU", "cuda"))
    with runtime.session():
        opened = runtime.open_parts(network)
        opened.run()
    assert cuda.calls.count("event") == len(parts(network)) + 1
    assert opened.times_ms().shape == (1, len(parts(network)))


def test_conditions_on_cuda_name_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(device: torch.device) -> str:
        if device.index:
            raise AssertionError("Invalid device id")
        return "NVIDIA Fake"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", name)
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    conditions = conditions_here("torch", device="cuda", dtype="float16")
    assert (conditions.device, conditions.device_name) == ("cuda", "NVIDIA Fake")
    assert conditions.versions["cuda"] == "12.4"
    with pytest.raises(InputError, match="no such CUDA device"):
        conditions_here("torch", device="cuda:7")
    with pytest.raises(InputError, match="device cpu only"):
        conditions_here("onnxruntime", device="cuda")
