"""ONNX Runtime on the CPU; the time of a part is the sum over its nodes in the runtime's own profile.

Each part is exported alone and the parts are joined, the names of part i prefixed with `i/`. Optimisation fuses nodes
and inserts reorders of the memory layout, but a fused node keeps the name of a tensor that it computes, prefix
included; a node without one (a reorder) is counted to the part of the node that ran before it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from latency.conditions import Conditions
from latency.runtimes.base import Runtime, Timed, TimedParts
from search_space import Architecture, InputError
from search_space.network import initialise
from search_space.parts import PartShape, parts

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
_PACKAGES = ("onnxruntime", "onnx")


class OnnxRuntime(Runtime):
    """An `InferenceSession` with all optimisations on the CPU execution provider, float32.

    Profiling makes an inference slower (14 % was seen); the table's calibration on whole networks, which are timed
    without it, takes that out again.
    """

    name = "onnxruntime"
    passes = 2  # opening a network takes a fifth of a second
    rounds = 3

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        self._folder = tempfile.TemporaryDirectory(prefix="nas-onnxruntime-")  # goes when the runtime goes
        self._exported: dict[PartShape, Path] = {}

    @property
    def open_at_once(self) -> int:
        # The threads of a session that has just run keep spinning for a while.
        return super().open_at_once if self.conditions.threads == 1 else 1

    @classmethod
    def versions(cls) -> dict[str, str]:
        found = {}
        for package in _PACKAGES:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                remedy = "pip install 'nas[onnxruntime]'"
                raise InputError(f"{package} is not installed", where="--runtime onnxruntime", remedy=remedy) from None
        return found

    @classmethod
    def check(cls, conditions: Conditions) -> None:
        only = {"device": "cpu", "dtype": "float32", "memory_format": "contiguous"}
        for name, value in only.items():
            if getattr(conditions, name) != value:
                rule = f"the onnxruntime runtime measures with {name} {value} only"
                raise InputError(rule, getattr(conditions, name), remedy="leave it out, or use --runtime torch")

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            yield

    def open(self, architecture: Architecture) -> Timed:
        return _Whole(self._open(self._join(architecture)))

    def open_module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Timed:
        import onnx

        file = Path(self._folder.name) / "module.onnx"
        self._write(module.eval(), input_shape, file, f"the network {type(module).__name__}")
        return _Whole(self._open(onnx.load(file)))

    def open_parts(self, architecture: Architecture) -> TimedParts:
        return _Profiled(self._open(self._join(architecture), profile=True), len(parts(architecture)))

    def open_alone(self, shape: PartShape) -> Timed:
        return _Whole(self._open(self._export(shape)))

    def _join(self, architecture: Architecture) -> ModelProto:
        """The whole network, the names of part i prefixed with `i/`."""
        from onnx import compose, helper

        models = [compose.add_prefix(self._export(shape), f"{i}/") for i, shape in enumerate(parts(architecture))]
        joined = models[0]
        for index, model in enumerate(models[1:], 1):
            joined.graph.node.append(helper.make_node("Identity", [f"{index - 1}/y"], [f"{index}/x"]))
            joined.graph.node.extend(model.graph.node)
            joined.graph.initializer.extend(model.graph.initializer)
        joined.graph.output[0].CopyFrom(models[-1].graph.output[0])
        return joined

    def _export(self, shape: PartShape) -> ModelProto:
        """One part as an ONNX model with input `x` and output `y`. Parts recur, so each is exported once."""
        import onnx

        file = self._exported.get(shape)
        if file is None:
            module = shape.build().eval()
            initialise(module)
            file = Path(self._folder.name) / f"{len(self._exported)}.onnx"
            what = f"a {shape.part.kind} of type {shape.part.type}"
            self._write(module, (shape.in_channels, shape.size, shape.size), file, what)
            self._exported[shape] = file
        return onnx.load(file)

    def _write(self, module: nn.Module, input_shape: tuple[int, ...], file: Path, what: str) -> None:
        """Export a module with input `x` and output `y`. Raises `InputError` if that cannot be done."""
        x = torch.randn(self.conditions.batch, *input_shape)
        # A failed export prints its graph on stdout, which is for results.
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            # The exporter by tracing: it takes 20 ms a part, the one by torch.export a second.
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    module, (x,), file, dynamo=False, opset_version=OPSET, input_names=["x"], output_names=["y"]
                )
            except RuntimeError as error:
                rule = f"{what} cannot be exported to ONNX: {error}"
                raise InputError(rule, remedy="measure it with --runtime torch") from None

    def _open(self, model: ModelProto, *, profile: bool = False) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.conditions.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _random_input(session: Any) -> dict[str, NDArray[np.float32]]:
    (taken,) = session.get_inputs()
    return {taken.name: np.random.default_rng(0).standard_normal(taken.shape, dtype=np.float32)}


class _Whole(Timed):
    def __init__(self, session: Any) -> None:
        self._session, self._input = session, _random_input(session)

    def run(self) -> float:
        started = time.perf_counter()
        self._session.run(None, self._input)
        return (time.perf_counter() - started) * 1e3


class _Profiled(TimedParts):
    def __init__(self, session: Any, count: int) -> None:
        self._session, self._input, self._count = session, _random_input(session), count

    def run(self) -> None:
        self._session.run(None, self._input)

    def times_ms(self) -> NDArray[np.float64]:
        file = Path(self._session.end_profiling())
        events = json.loads(file.read_text())
        file.unlink()
        return part_times_ms(events, self._count)


def part_times_ms(events: list[dict[str, Any]], count: int) -> NDArray[np.float64]:
    """[runs, count] from a profile's events: durations of the kernels, in the order they ran, summed by part.

    Every inference runs the same nodes; a run begins when the first node comes round again.
    """
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    kernels.sort(key=lambda event: event["ts"])
    runs: list[NDArray[np.float64]] = []
    part = 0
    for event in kernels:
        if event["name"] == kernels[0]["name"]:
            runs.append(np.zeros(count))
            part = 0
        found = re.match(r"(?:fused )?(\d+)/", event["name"])
        if found is not None:
            part = int(found[1])
        runs[-1][part] += event["dur"] / 1e3
    return np.asarray(runs).reshape(len(runs), count)
