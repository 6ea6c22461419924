"""What every format owes: the same logits, params and macs after a round trip. A new one is one line in LOADERS."""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nas.export import EXPORTERS
from nas.export.api import Exported, export_network
from nas.export.load import load_model
from nas.export.names import class_name
from nas.export.weights import write_weights
from search_space import Architecture, InputError, build_model, count_cost, load_architecture

SMALL = 64
"""Pixels. Cost is counted and logits are compared at this resolution."""
WHOLE = ("mobilenetv3-small", "mnasnet-a1")
"""Networks that go through every format."""
OTHERS = ("efficientnet-b0", "efficientnetv2-s", "mobilenetv1", "mobilenetv2", "mnasnet-b1", "mobilenetv3-large")
"""Networks that go through the quick formats; through the others in the slow tests."""
SLOW = ("onnx", "exported-program", "torchscript")
OPTIONAL = {"litert": "litert_torch", "executorch": "executorch"}
"""Formats whose packages are too large for the tests' environment, and what has to be installed to test them."""
NOT_EXPRESSIBLE = {
    ("mnasnet-a1", "torchvision"): "stem.activation",
    ("mobilenetv1", "torchvision"): "stem.activation",
    ("mobilenetv2", "torchvision"): "stem.activation",
    ("mnasnet-b1", "torchvision"): "stem.activation",
}


class Loaded:
    """A network as it was read back: its function, its parameters and, with one image, its multiply–adds.

    None where a runtime shows neither.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], params: int | None, macs: int | None) -> None:
        self.function, self.params, self.macs = function, params, macs


def of_module(model: nn.Module) -> Loaded:
    if not type(model).__name__.startswith("GraphModule"):
        model.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(2, 3, SMALL, SMALL))
    params = sum(p.numel() for p in model.parameters())
    return Loaded(model, params, counter.get_total_flops() // 2 // 2)


def from_architecture(file: Path, exported: Exported) -> Loaded:
    assert exported.weights is not None
    model = build_model(load_architecture(file))
    model.load_state_dict(read(exported.weights))
    return of_module(model)


def from_torch(file: Path, exported: Exported) -> Loaded:
    assert exported.weights is not None
    model = getattr(run(file), class_name(load_architecture(exported.architecture)))()
    model.load_state_dict(read(exported.weights))
    return of_module(model)


def from_library(library: str) -> Callable[[Path, Exported], Loaded]:
    def load(file: Path, exported: Exported) -> Loaded:
        model = run(file).create_model()
        model.load_state_dict(read(file.parent / f"{file.parent.name}.{library}.safetensors"))
        return of_module(model)

    return load


def from_onnx(file: Path, exported: Exported) -> Loaded:
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(file), full_check=True)
    graph = onnx.shape_inference.infer_shapes(onnx.load(file)).graph
    sizes = {one.name: list(one.dims) for one in graph.initializer}
    # Equal tensors, as biases that are still 0, are kept once; the others are that one by another name.
    sizes |= {
        node.output[0]: sizes[node.input[0]]
        for node in graph.node
        if node.op_type == "Identity" and node.input[0] in sizes
    }
    outputs = {
        one.name: [d.dim_value for d in one.type.tensor_type.shape.dim] for one in [*graph.value_info, *graph.output]
    }
    state = build_model(load_architecture(exported.architecture)).state_dict()
    names = {
        name for name, tensor in state.items() if tensor.dim() and not name.endswith(("running_mean", "running_var"))
    }
    params = sum(math.prod(sizes[name]) for name in names & set(sizes))
    macs = 0
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = sizes[node.input[1]]
            macs += math.prod(weight) * math.prod(outputs[node.output[0]][2:])
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def function(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return Loaded(function, params, macs)


def from_exported_program(file: Path, exported: Exported) -> Loaded:
    return of_module(torch.export.load(file).module())


def from_torchscript(file: Path, exported: Exported) -> Loaded:
    return of_module(torch.jit.load(file))


def from_litert(file: Path, exported: Exported) -> Loaded:
    from ai_edge_litert.interpreter import Interpreter

    from nas.export.litert import run as run_interpreter

    interpreter = Interpreter(model_path=str(file))
    return Loaded(lambda images: torch.cat([run_interpreter(interpreter, one[None]) for one in images]), None, None)


def from_executorch(file: Path, exported: Exported) -> Loaded:
    from executorch.runtime import Runtime

    forward = Runtime.get().load_program(file).load_method("forward")
    return Loaded(lambda images: torch.cat([forward.execute([one[None]])[0].clone() for one in images]), None, None)


LOADERS: dict[str, Callable[[Path, Exported], Loaded]] = {
    "yaml": from_architecture,
    "json": from_architecture,
    "torch": from_torch,
    "timm": from_library("timm"),
    "torchvision": from_library("torchvision"),
    "onnx": from_onnx,
    "exported-program": from_exported_program,
    "torchscript": from_torchscript,
    "litert": from_litert,
    "executorch": from_executorch,
}


def read(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(file)


def run(file: Path) -> Any:
    """Import a file as any user would."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def randomised(architecture: Architecture) -> nn.Module:
    """Weights whose norms have all kinds of statistics, so that a wrong eps, order or name shows."""
    torch.manual_seed(1)
    model = build_model(architecture)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(8, 3, SMALL, SMALL))
    return model.eval()


@functools.cache
def case(name: str) -> tuple[Architecture, nn.Module, Tensor, Tensor]:
    architecture = load_architecture(name).replace(resolution=SMALL)
    model = randomised(architecture)
    images = torch.randn(5, 3, SMALL, SMALL)  # a batch size that no exporter has seen
    with torch.no_grad():
        return architecture, model, images, model(images)


GROUPS = (tuple(name for name in LOADERS if name not in (*SLOW, *OPTIONAL)), SLOW, *((name,) for name in OPTIONAL))
"""All formats of a group are asked for at once."""
_exported: dict[tuple[str, tuple[str, ...]], Exported] = {}


def export(name: str, format_: str, factory: pytest.TempPathFactory) -> Exported:
    """What the export of a network to the group of a format left; each is made once."""
    group = next(group for group in GROUPS if format_ in group)
    if (name, group) not in _exported:
        architecture, model, _, _ = case(name)
        folder = factory.mktemp(name)
        write_weights(folder / "weights.safetensors", model.state_dict(), architecture.arch_id)
        formats = [one for one in group if (name, one) not in NOT_EXPRESSIBLE]
        _exported[name, group] = export_network(
            architecture, formats, folder / name, weights=folder / "weights.safetensors"
        )
    return _exported[name, group]


def check(name: str, format_: str, factory: pytest.TempPathFactory) -> None:
    architecture, _, images, expected = case(name)
    if (name, format_) in NOT_EXPRESSIBLE:
        with pytest.raises(InputError, match=NOT_EXPRESSIBLE[name, format_]) as caught:
            EXPORTERS[format_].check(architecture)
        assert len(str(caught.value).splitlines()) == 1
        return
    exported = export(name, format_, factory)
    loaded = LOADERS[format_](exported.files[format_], exported)
    with torch.no_grad():
        logits = loaded.function(images)
    # Vacuous if the two images gave the same logits, or none at all.
    assert (expected[0] - expected[1]).abs().max() > 0.05 * expected.abs().max() > 0
    torch.testing.assert_close(logits, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-3)
    if loaded.params is not None:
        cost = count_cost(architecture)
        assert (loaded.params, loaded.macs) == (cost.params, cost.macs)


def test_every_format_is_tested() -> None:
    assert list(LOADERS) == list(EXPORTERS)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("format_", [name for name in LOADERS if name not in OPTIONAL])
def test_round_trip(name: str, format_: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(name, format_, tmp_path_factory)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("format_", GROUPS[0])
def test_round_trip_of_more_networks(name: str, format_: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(name, format_, tmp_path_factory)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("format_", SLOW)
def test_round_trip_through_slow_formats(name: str, format_: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    check(name, format_, tmp_path_factory)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("format_", OPTIONAL)
def test_round_trip_through_large_packages(name: str, format_: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip(OPTIONAL[format_])
    check(name, format_, tmp_path_factory)


@pytest.mark.parametrize("name", WHOLE)
def test_load_model_gives_the_network_back(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    _, _, images, expected = case(name)
    with torch.no_grad():
        assert torch.equal(load_model(export(name, "yaml", tmp_path_factory).card.parent)(images), expected)
