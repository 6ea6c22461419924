"""What every runtime owes. A new one is a line in the registry, and is tested here without another."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latency import RUNTIMES, Predictor, conditions_here, load_table, make_runtime, save_table
from latency.measure import InPlace, Whole, measure
from latency.runtimes import Runtime
from latency.runtimes.onnxruntime import OnnxRuntime, part_times_ms
from latency.runtimes.torch import TorchRuntime, _CudaParts
from latency.table import Calibration, LatencyTable, Measured, Times
from search_space import Architecture, Block, InputError, Stage, component, load_architecture
from search_space.component import register
from search_space.layers import BuildContext
from search_space.parts import PartShape, parts
from search_space.rules import Integer

RUNS = 3


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run, two threads may be asked for, and five may not."""
    monkeypatch.setattr("latency.runtimes.os.cpu_count", lambda: 4)


@pytest.fixture(params=sorted(RUNTIMES))
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return make_runtime(conditions_here(request.param))


@pytest.fixture(scope="module")
def network() -> Architecture:
    return load_architecture("mobilenetv3-small").replace(resolution=96)


def part_times(runtime: Runtime, architecture: Architecture, runs: int = RUNS) -> np.ndarray[Any, Any]:
    with runtime.session():
        opened = runtime.open_parts(architecture)
        for _ in range(runs):
            opened.run()
        return opened.times_ms()


def whole_times(runtime: Runtime, architecture: Architecture, runs: int = RUNS) -> list[float]:
    with runtime.session():
        opened = runtime.open(architecture)
        return [opened.run() for _ in range(runs)]


def good(times: Any) -> bool:
    return bool(np.isfinite(times).all() and (np.asarray(times) > 0).all())


def test_a_whole_network_takes_time(runtime: Runtime, network: Architecture) -> None:
    assert good(whole_times(runtime, network))


def test_every_part_of_every_run_takes_time(runtime: Runtime, network: Architecture) -> None:
    times = part_times(runtime, network)
    assert times.shape == (RUNS, len(parts(network)))
    assert good(times)


def test_the_parts_are_of_the_order_of_the_whole(runtime: Runtime) -> None:
    network = load_architecture("mobilenetv2")  # large enough that a pause of the machine does not decide
    whole = min(whole_times(runtime, network, 8))
    summed = part_times(runtime, network, 8).sum(axis=1).min()
    assert whole / 4 < summed < whole * 4


def test_a_large_part_takes_longer_than_a_small_one(runtime: Runtime) -> None:
    """Times are given to the right parts: one block is made some fifty times the work of the others."""
    small = component.from_dict("block", {"type": "conv", "out_channels": 8})
    large = component.from_dict("block", {"type": "conv", "out_channels": 8, "kernel_size": 31})
    assert isinstance(small, Block)
    assert isinstance(large, Block)
    base = load_architecture("mobilenetv3-small").replace(resolution=64)
    for place in range(3):
        blocks = [small, small, small]
        blocks[place] = large
        times = part_times(runtime, base.replace(stages=(Stage(tuple(blocks)),)), 5).min(axis=0)
        assert times[1:4].argmax() == place


def test_each_kind_of_part_runs_alone(runtime: Runtime, network: Architecture) -> None:
    stem, block, *_, head = parts(network)
    with runtime.session():
        for shape in (stem, block, head):
            assert good(runtime.open_alone(shape).run())


def test_a_session_leaves_the_process_as_it_was(runtime: Runtime, network: Architecture) -> None:
    conditions = conditions_here(runtime.name, threads=torch.get_num_threads() + 1)
    torch.manual_seed(0)
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    whole_times(make_runtime(conditions), network, 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random)
    assert not torch.is_inference_mode_enabled()
    with pytest.raises(RuntimeError, match="on the way"), make_runtime(conditions).session():
        raise RuntimeError("on the way")
    assert torch.get_num_threads() == threads


def test_two_networks_are_open_at_once(runtime: Runtime, network: Architecture) -> None:
    """Their runs take turns, and each keeps its own times."""
    other = network.replace(stages=network.stages[:3])
    jobs = [InPlace(network), Whole(network), InPlace(other), Whole(other)]
    (samples,) = measure(runtime, jobs, passes=1, rounds=2)
    assert samples[0].shape == (2, len(parts(network)))
    assert samples[2].shape == (2, len(parts(other)))
    assert samples[1].shape == samples[3].shape == (2,)
    assert all(map(good, samples.values()))


# Conditions.


def test_conditions_name_the_device_and_the_versions(runtime: Runtime) -> None:
    conditions = conditions_here(runtime.name)
    assert conditions == runtime.conditions
    assert conditions.device_name.strip()
    assert conditions.device == "cpu"
    assert conditions.versions == runtime.versions()
    assert conditions.versions[runtime.name]
    json.dumps(conditions.to_dict())
    assert conditions.differences(conditions) == []
    assert conditions.differences(conditions_here(runtime.name, threads=2)) == ["threads 1 against 2"]


@pytest.mark.parametrize(
    ("impossible", "said"),
    [
        ({"device": "tpu"}, "not a device"),
        ({"device": ""}, "not a device"),
        ({"device": "meta"}, "CPU and on CUDA"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"device": "cuda:3"}, "no CUDA device"),
        ({"threads": 0}, "threads must be"),
        ({"threads": -1}, "threads must be"),
        ({"threads": 5}, "threads must be at most the machine's processors, 4"),
        ({"threads": 1.5}, "threads must be"),
        ({"batch": 0}, "batch must be"),
        ({"batch": True}, "batch must be"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"memory_format": "nchw"}, "memory_format must be"),
    ],
)
def test_impossible_conditions_are_refused_in_one_line(
    runtime: Runtime, impossible: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=said) as caught:
        conditions_here(runtime.name, **impossible)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(("word", "meant"), [("troch", "torch"), ("onnx-runtime", "onnxruntime")])
def test_an_unknown_runtime_is_refused_with_the_nearest_name(word: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"did you mean {meant}") as caught:
        conditions_here(word)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("impossible", [{"dtype": "bfloat16"}, {"memory_format": "channels_last"}])
def test_onnxruntime_measures_contiguous_float32_only(impossible: dict[str, str]) -> None:
    with pytest.raises(InputError, match="use --runtime torch"):
        conditions_here("onnxruntime", **impossible)  # type: ignore[arg-type]


def test_a_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latency.runtimes.onnxruntime._PACKAGES", ("onnxruntime", "no-such-package"))
    with pytest.raises(InputError, match=r"no-such-package is not installed.*pip install 'nas\[onnxruntime\]'"):
        conditions_here("onnxruntime")


# A block type that nobody has heard of.


class Shuffle(nn.Module):
    """Channel shuffle: [N, groups · c, H, W] → the same shape."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


@dataclass(frozen=True, kw_only=True)
class Shuffled(Block):
    """Operations which no block of ours has."""

    groups: Annotated[int, Integer(1, 64)] = 2

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        conv = nn.Conv2d(in_channels, self.out_channels, 3, self.stride, 1, groups=self.groups)
        return nn.Sequential(Shuffle(self.groups), conv, nn.ELU())


@dataclass(frozen=True, kw_only=True)
class Unknown(Block):
    """Has an operation that the exporter to ONNX does not know."""

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        return nn.ChannelShuffle(2)


@dataclass(frozen=True, kw_only=True)
class Nothing(Block):
    """Leaves the feature map as it is, so that an optimiser may leave it out."""

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        return nn.Identity()


@pytest.fixture
def new_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers them for one test."""
    monkeypatch.setattr(component, "_registry", dict(component._registry))
    register("shuffled")(Shuffled)
    register("unknown")(Unknown)
    register("nothing")(Nothing)


@pytest.mark.usefixtures("new_types")
def test_a_new_block_type_needs_no_change(runtime: Runtime, network: Architecture, tmp_path: Path) -> None:
    made = network.replace(stages=(Stage((Shuffled(out_channels=32, stride=2), Shuffled(out_channels=32, groups=4))),))
    with runtime.session():
        assert good(runtime.open_alone(parts(made)[1]).run())
    (samples,) = measure(runtime, [InPlace(made), Whole(made)], passes=1, rounds=3)
    times = {shape: Times.of(taken) for shape, taken in zip(parts(made), samples[0].T, strict=True)}
    total = sum(one.p10_ms or math.nan for one in times.values())
    calibration = Calibration(1.0, 0.0, (Measured(made, Times(1, total, total)),))
    save_table(LatencyTable("new", runtime.conditions, times, calibration=calibration), tmp_path / "table.json")
    table = load_table(tmp_path / "table.json")
    assert table.times == times
    assert Predictor(table).latency_ms(made) == pytest.approx(total)


@pytest.mark.usefixtures("new_types")
def test_a_part_that_does_nothing_can_be_timed(runtime: Runtime, network: Architecture) -> None:
    width = network.stem.out_channels
    made = network.replace(stages=(Stage((Nothing(out_channels=width), Shuffled(out_channels=width))),))
    times = part_times(runtime, made)
    assert times.shape == (RUNS, 4)
    assert good(times.sum(axis=1))
    assert (times >= 0).all()
    assert times[:, 1].min() < times[:, 2].min()
    for taken in times.T:
        Times.of(taken)  # else the build that measured it would be refused at its end


# The torch runtime.


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


# The onnxruntime runtime.


class Spy(OnnxRuntime):
    """Keeps the joined models."""

    joined: ClassVar[list[Any]] = []

    def _open(self, model: Any, *, profile: bool = False) -> Any:
        self.joined.append(model)
        return super()._open(model, profile=profile)


def test_the_joined_network_has_the_parts_in_order_and_the_networks_output(network: Architecture) -> None:
    import onnx

    runtime = Spy(conditions_here("onnxruntime", batch=2))
    with runtime.session():
        session = runtime._open(runtime._join(network))
    (model,) = runtime.joined[-1:]
    onnx.checker.check_model(model)
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert taken.shape == [2, network.input_channels, network.resolution, network.resolution]
    assert given.shape == [2, network.num_classes]
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {one.name: [d.dim_value for d in one.type.tensor_type.shape.dim] for one in inferred.graph.value_info}
    for index, shape in enumerate(parts(network)[1:], 1):
        assert shapes[f"{index}/x"] == [2, shape.in_channels, shape.size, shape.size]
    weights = {one.name.split("/")[0] for one in model.graph.initializer}
    assert weights == {str(index) for index in range(len(parts(network)))}


def test_onnxruntime_runs_with_the_threads_asked_for(network: Architecture) -> None:
    runtime = OnnxRuntime(conditions_here("onnxruntime", threads=2))
    with runtime.session():
        options = runtime._open(runtime._export(parts(network)[0])).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)


def test_the_parts_exported_for_onnxruntime_compute_what_torch_computes(network: Architecture) -> None:
    runtime = OnnxRuntime(conditions_here("onnxruntime"))
    for shape in (parts(network)[0], parts(network)[3], parts(network)[-1]):
        torch.manual_seed(0)
        with runtime.session():
            session = runtime._open(runtime._export(shape))
            torch_module = same_weights(shape)
        x = torch.randn(1, shape.in_channels, shape.size, shape.size)
        (given,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            expected = torch_module(x)
        assert given.shape == tuple(expected.shape)
        assert torch.allclose(torch.from_numpy(given), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def same_weights(shape: PartShape) -> nn.Module:
    """The module as the runtime made it: sessions put the random state back, so that it is drawn again alike."""
    from search_space.network import initialise

    torch.manual_seed(0)
    module = shape.build().eval()
    initialise(module)
    return module


@pytest.mark.usefixtures("new_types")
def test_a_part_that_cannot_be_exported_is_refused_in_one_line(network: Architecture) -> None:
    runtime = OnnxRuntime(conditions_here("onnxruntime"))
    shape = PartShape(Unknown(out_channels=16), 16, 8, 16)
    with pytest.raises(InputError, match=r"unknown.*channel_shuffle.*--runtime torch") as caught, runtime.session():
        runtime.open_alone(shape)
    assert len(str(caught.value).splitlines()) == 1


def test_every_part_is_found_in_the_profile(network: Architecture) -> None:
    """By its own name: if not, its time would be counted to its neighbour."""
    runtime = OnnxRuntime(conditions_here("onnxruntime"))
    with runtime.session():
        session = runtime._open(runtime._join(network), profile=True)
        session.run(None, {session.get_inputs()[0].name: np.zeros(session.get_inputs()[0].shape, np.float32)})
    file = Path(session.end_profiling())
    names = [event["name"] for event in json.loads(file.read_text()) if event["name"].endswith("_kernel_time")]
    file.unlink()
    found = {
        int(name.removeprefix("fused ").split("/")[0]) for name in names if name.removeprefix("fused ")[0].isdigit()
    }
    assert found == set(range(len(parts(network))))


def event(name: str, ts: int, dur: int, cat: str = "Node", what: str = "_kernel_time") -> dict[str, Any]:
    return {"cat": cat, "name": name + what, "ts": ts, "dur": dur}


RUN = [("0/conv", 100), ("0/act", 50), ("fused 1/conv", 200), ("reorder_token_3", 30), ("12/gemm", 7)]


def profile(*names: tuple[str, int], runs: int = 1) -> list[dict[str, Any]]:
    return [event(name, 1000 * run + i, dur) for run in range(runs) for i, (name, dur) in enumerate(names)]


def test_nodes_are_summed_by_part_and_run() -> None:
    expected = np.zeros(13)
    expected[[0, 1, 12]] = 0.150, 0.230, 0.007
    times = part_times_ms(profile(*RUN, runs=3), 13)
    assert times.shape == (3, 13)
    assert np.allclose(times, expected)


def test_a_reorder_before_the_first_part_is_the_first_parts() -> None:
    times = part_times_ms(profile(("reorder", 5), ("0/conv", 100), ("1/conv", 200), runs=2), 2)
    assert np.allclose(times, [[0.105, 0.2], [0.105, 0.2]])


def test_other_events_and_their_order_in_the_file_do_not_matter() -> None:
    events = profile(*RUN, runs=2)
    others = [
        event("model_run", 0, 9999, "Session", ""),
        event("1/conv", 3, 9999, what="_fence_before"),
        event("1/conv", 5, 9999, "Kernel"),
    ]
    assert np.array_equal(part_times_ms([*others, *events[::-1]], 13), part_times_ms(events, 13))


def test_a_profile_without_kernels_has_no_runs() -> None:
    assert part_times_ms([], 4).shape == (0, 4)
