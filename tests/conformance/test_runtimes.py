"""What every runtime owes. A new one is a line in the registry, and is tested here without another."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from support import of_all_types, part_times, whole_times
from torch import Tensor, nn

from latency import RUNTIMES, Predictor, conditions_here, load_table, make_runtime, save_table
from latency.measure import InPlace, Whole, measure
from latency.runtimes import Runtime
from latency.runtimes.onnxruntime import OnnxRuntime
from latency.table import Calibration, LatencyTable, Measured, Times
from search_space import Architecture, Block, InputError, Stage, component, load_architecture
from search_space.component import register
from search_space.layers import BuildContext
from search_space.parts import PartShape, parts
from search_space.rules import Integer

pytestmark = pytest.mark.usefixtures("four_processors")


@pytest.fixture(params=sorted(RUNTIMES))
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return make_runtime(conditions_here(request.param))


def good(times: Any) -> bool:
    return bool(np.isfinite(times).all() and (np.asarray(times) > 0).all())


def test_a_whole_network_takes_time(runtime: Runtime, network: Architecture) -> None:
    assert good(whole_times(runtime, network))


def test_every_part_of_every_run_takes_time(runtime: Runtime, network: Architecture) -> None:
    times = part_times(runtime, network)
    assert times.shape == (3, len(parts(network)))
    assert good(times)


def test_parts_of_all_types_take_time(runtime: Runtime) -> None:
    network = of_all_types()
    assert good(part_times(runtime, network, 1))
    assert good(whole_times(runtime, network, 1))


def test_blocks_run_where_one_pixel_is_left(runtime: Runtime) -> None:
    """Of 8 px, three strides leave one: where sizes are interpolated, exporters have died of it."""
    assert good(part_times(runtime, of_all_types().replace(resolution=8), 1))


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
    samples = measure(runtime, jobs, passes=1, rounds=2)
    assert samples[0].shape == (2, len(parts(network)))
    assert samples[2].shape == (2, len(parts(other)))
    assert samples[1].shape == samples[3].shape == (2,)
    assert all(map(good, samples))


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
    samples = measure(runtime, [InPlace(made), Whole(made)], passes=1, rounds=3)
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
    assert times.shape == (3, 4)
    assert good(times.sum(axis=1))
    assert (times >= 0).all()
    assert times[:, 1].min() < times[:, 2].min()
    for taken in times.T:
        Times.of(taken)  # else the build that measured it would be refused at its end


@pytest.mark.usefixtures("new_types")
def test_a_part_that_cannot_be_exported_is_refused_in_one_line(network: Architecture) -> None:
    runtime = OnnxRuntime(conditions_here("onnxruntime"))
    shape = PartShape(Unknown(out_channels=16), 16, 8, 16)
    with pytest.raises(InputError, match=r"unknown.*channel_shuffle.*--runtime torch") as caught, runtime.session():
        runtime.open_alone(shape)
    assert len(str(caught.value).splitlines()) == 1
