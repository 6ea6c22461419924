"""Networks side by side, and whole networks from elsewhere as baselines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import space
from torch import nn

from evaluators import EvaluationFailed, ProxyTraining, Recipe, load_images
from latency import Conditions, LatencyTable, Predictor, conditions_here, save_table
from latency.table import Calibration, Times
from nas.architectures import resolve_network
from nas.cli import run
from nas.comparing import Compared, better, compare
from nas.importing import OpaqueNetwork
from search_space import InputError, build_model, count_cost, load_architecture
from search_space.cost import Cost, count_module
from search_space.graph import SpaceGraph

# Counted on the models of torchvision 0.29; the last two equal what torchvision itself publishes, in billions.
GOLDEN = {
    "alexnet": (61_100_840, 714_188_480),
    "vgg11": (132_863_336, 7_609_090_048),
    "vgg16": (138_357_544, 15_470_264_320),
    "resnet18": (11_689_512, 1_814_073_344),
    "vit_b_16": (86_567_656, 17_563_828_224),
    "swin_t": (28_288_354, 4_490_566_656),
}


def made_up(device_name: str = "a device") -> LatencyTable:
    """A table of a small space, in which all parts take as long."""
    times = {shape: Times(1, *[0.01] * 4) for shape in SpaceGraph(space()).shapes()}
    return LatencyTable("made-up", Conditions("torch", device_name), times, calibration=Calibration(2.0, 0.5))


TINY = Recipe(resolution_px=16, epochs=1, max_train_images=64, max_val_images=64, batch_size=32)


def show(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "vit_b_16", "swin_t"])
def test_baselines_are_counted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = show("show", f"torchvision:{name}", capsys=capsys)
    assert (shown["params"], shown["macs"]) == GOLDEN[name]
    assert (shown["resolution"], shown["arch_id"], shown["macs_lack"]) == (224, None, [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "vgg16"])
def test_large_baselines_are_counted(name: str) -> None:
    network = resolve_network(f"torchvision:{name}")
    assert isinstance(network, OpaqueNetwork)
    assert (network.cost().params, network.cost().macs) == GOLDEN[name]


@pytest.mark.slow
def test_counts_equal_what_torchvision_publishes() -> None:
    """`_ops` of its weights, in billions to three places, at the resolution that it states."""
    from torchvision import models

    for name in models.list_models(module=models):
        weights = models.get_model_weights(name).DEFAULT
        if weights.meta["num_params"] > 100_000_000:
            continue
        network = resolve_network(f"torchvision:{name}")
        cost = network.cost()
        assert cost.params == weights.meta["num_params"] or name in ("googlenet", "inception_v3"), name
        assert cost.macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=0.002, rel=0.002), name


def test_attention_is_counted_in_both_its_forms() -> None:
    """The layer as a whole, and the products in it: 4 tokens, 8 channels, 2 heads."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    projections, products, mlp = 4 * 8 * 32, 2 * 4 * 4 * 8, 2 * 4 * 8 * 16
    assert count_module(layer, (4, 8)).macs == projections + products + mlp
    assert torch.backends.mha.get_fastpath_enabled()

    class Written(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            heads = x.unflatten(-1, (2, 4)).transpose(1, 2)
            out: torch.Tensor = ((heads @ heads.transpose(-2, -1)).softmax(-1) @ heads).transpose(1, 2).flatten(2)
            return out

    assert count_module(Written(), (4, 8)).macs == products


def test_what_is_not_counted_is_said() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(4, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.cell(x)[0]
            return out

    assert count_module(nn.Sequential(Recurrent(), nn.ReLU()), (5, 4)).unseen == {"aten::lstm"}
    assert not count_cost(load_architecture("mobilenetv3-small")).unseen


def test_networks_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = show("compare", "mobilenetv3-small", "timm:lcnet_050", "torchvision:shufflenet_v2_x0_5", capsys=capsys)
    rows = found["networks"]
    assert [row["kind"] for row in rows] == ["architecture", "architecture", "baseline"]
    assert rows[0]["macs"] == 56_510_400
    assert (rows[2]["params"], rows[2]["macs"]) == (1_366_792, 40_476_448)
    assert all(row["latency_ms"] is row["measured_latency_ms"] is None for row in rows)
    assert run(["compare", "mobilenetv3-small", "torchvision:shufflenet_v2_x0_5"]) == 0
    printed = capsys.readouterr().out
    assert "torchvision:shufflenet_v2_x0_5" in printed
    assert "40.48 M" in printed


def test_measured_and_trained_under_one_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("{base: quick, epochs: 1, max_train_images: 64, max_val_images: 64, resolution_px: 16}")
    names = ["mobilenetv3-small", "torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1"]
    found = show("compare", *names, "--measure", "--train", "--proxy", str(recipe), capsys=capsys)
    small, shuffle, squeeze = found["networks"]
    assert found["measured_conditions"]["threads"] == 1
    assert all(row["measured_latency_ms"] > 0 for row in (small, shuffle, squeeze))
    assert small["measured"]["count"] == shuffle["measured"]["count"] == 20
    assert 0 <= small["accuracy"] <= 1
    assert 0 <= shuffle["accuracy"] <= 1
    # Said plainly where it cannot be done.
    assert "accuracy" not in squeeze
    assert "it cannot be run at 16 px" in squeeze["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["compare"], "Missing argument 'ARCH…'"),
        (["compare", "torchvision:alexnett"], "did you mean alexnet?"),
        (["compare", "torchvision:"], "torchvision has no classification network of this name"),
        (["compare", "timm:nothing-like-it"], "timm has no network of this name"),
        (["compare", "mobilenetv3-small", "--threads", "1"], "--threads says how to time, got 1; add --measure"),
        (["compare", "mobilenetv3-small", "--measure", "--runtime", "tvm"], "the runtime must be one that can be run"),
        (["compare", "mobilenetv3-small", "--interpolate"], "--interpolate needs a latency table"),
        (["compare", "mobilenetv3-small", "--proxy", "quick"], "--proxy does nothing without --train"),
        (["compare", "mobilenetv3-small", "--train", "--data", "nothing"], "nothing"),
        (["compare", "mobilenetv3-small", "--train", "--proxy", "nothing"], "--proxy must be a fidelity"),
        (["compare", "mobilenetv3-small", "--train", "--seed", "-1"], "--seed must be 0 to"),
        (["compare", "timm:mobilenetv2_100.no_such_tag"], "timm cannot build the network: Invalid pretrained tag"),
        (["export", "torchvision:alexnet"], "a network of torchvision's is no architecture"),
        (["export", "timm:resnet18"], "an architecture cannot express timm's ResNet"),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert named in said
    assert len(said.splitlines()) == 1


def opaque(module: nn.Module, *, resolution: int = 32) -> OpaqueNetwork:
    return OpaqueNetwork("elsewhere:net", resolution, lambda classes, size: module)


def test_a_baseline_that_cannot_run_is_refused() -> None:
    with pytest.raises(InputError, match="the network cannot be counted at 32 px"):
        opaque(nn.Linear(7, 1)).cost()


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 10)), "it cannot be run at 16 px"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), "not a score for each class"),
    ],
)
def test_a_baseline_that_cannot_be_trained_says_why(module: nn.Module, named: str) -> None:
    evaluator = ProxyTraining(load_images("digits"), TINY, device="cpu")
    with pytest.raises(EvaluationFailed, match=named):
        list(evaluator.evaluate_module(lambda classes, size: module, "net", seed=0))


def test_a_baseline_is_trained_as_an_architecture_is() -> None:
    """The same network, once as an architecture and once as a module: only its initial weights' seed differs."""
    evaluator = ProxyTraining(load_images("digits"), TINY, device="cpu")
    architecture = load_architecture("mobilenetv3-small")

    def build(num_classes: int, size: int) -> nn.Module:
        return build_model(architecture.replace(num_classes=num_classes, resolution=32))

    first = list(evaluator.evaluate_module(build, "net", seed=0))[-1].metrics
    assert first == list(evaluator.evaluate_module(build, "net", seed=0))[-1].metrics
    assert set(first) == {"accuracy", "loss", "train_loss"}


def test_a_vit_is_built_for_the_images(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("torchvision:vit_b_16", "timm:test_vit"):
        network = resolve_network(name)
        assert isinstance(network, OpaqueNetwork)
        with torch.device("meta"):
            model = network.make(10, 32).eval()
            assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def compared(name: str, loss: float | None, ms: float | None) -> Compared:
    network = load_architecture("mobilenetv3-small").replace(name=name)
    scores = {} if loss is None else {"loss": loss, "accuracy": 0.5}
    return Compared(network, Cost(1, 1, 1, 1), None, None if ms is None else Times.of([ms]), scores)


def test_better_at_no_more_latency() -> None:
    rows = [compared("a", 1.0, 10), compared("b", 0.9, 10.4), compared("c", 0.8, 20), compared("d", 1.1, 5)]
    assert better(rows) == {0: [1]}
    assert better([*rows, compared("e", None, 1)]) == {0: [1]}
    assert better([compared("a", 1.0, None), compared("b", 0.5, None)]) == {}


def test_what_a_table_lacks_is_a_note_and_no_failure() -> None:
    rows = compare([load_architecture("mobilenetv3-small")], predictor=Predictor(made_up()))
    assert rows[0].latency_ms is None
    assert "no predicted latency: the latency table made-up lacks" in rows[0].notes[0]


def test_measuring_goes_through_every_runtime() -> None:
    pytest.importorskip("onnxruntime")
    networks = [
        load_architecture("mobilenetv3-small").replace(resolution=32),
        resolve_network("torchvision:squeezenet1_1"),
    ]
    rows = compare(networks, conditions=conditions_here("onnxruntime"))
    assert all(row.measured_ms for row in rows)


def test_a_baseline_is_measured_where_others_are_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(tmp_path / "here.json")
    save_table(made_up(device_name=conditions_here().device_name), table)
    found = show("latency", "predict", "torchvision:squeezenet1_1", "--latency", table, capsys=capsys)
    (network,) = found["networks"]
    assert network["latency_ms"] is None
    assert network["measured_latency_ms"] > 0
    shown = show("show", "torchvision:squeezenet1_1", "--latency", table, capsys=capsys)
    assert shown["latency"]["measured"]["count"] == 20
    assert run(["compare", "torchvision:squeezenet1_1", "--latency", table]) == 0
    assert "no predicted latency: a baseline has no parts" in capsys.readouterr().out


def test_a_baseline_needs_the_tables_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(tmp_path / "elsewhere.json")
    save_table(made_up(), table)
    for command in (["latency", "predict"], ["show"]):
        assert run([*command, "torchvision:squeezenet1_1", "--latency", table]) == 2
        said = capsys.readouterr().err
        assert "a network without parts can only be measured, and the latency table is of a device" in said
        assert len(said.splitlines()) == 1
