"""The onnxruntime runtime: the joined network, and whose time a node of the profile is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from latency import conditions_here
from latency.runtimes.onnxruntime import OnnxRuntime, part_times_ms
from search_space import Architecture
from search_space.parts import PartShape, parts

pytestmark = pytest.mark.usefixtures("four_processors")


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
