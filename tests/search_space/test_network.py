"""Built networks: layouts, sizes, initial weights, stochastic depth, gradients, export."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from search_space import build_model, load_architecture, references
from search_space.blocks.fused_mbconv import FusedMBConv
from search_space.blocks.mbconv import MBConv
from search_space.layers import BuildContext, DropPath, SqueezeExcite, round_channels

SMALL = ["mobilenetv1", "mobilenetv2", "mobilenetv3-small", "mobilenetv3-large", "mnasnet-a1", "efficientnet-b0"]


@pytest.mark.parametrize("name", references())
def test_initial_weights_and_outputs_are_sane_in_either_layout(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(load_architecture(name).replace(drop_path_rate=0, norm_momentum=1))
    for parameter in network.parameters():
        assert parameter.isfinite().all()
    x = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        network.train()(x)  # gives the norms their statistics
        logits = network.eval()(x)
        again = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert logits.shape == (8, 1000)
    assert logits.isfinite().all()
    assert 0 < logits.abs().max() < 100
    torch.testing.assert_close(again, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet-b0"])
def test_initial_weights_have_the_spread_of_he(name: str) -> None:
    torch.manual_seed(0)
    for layer in build_model(load_architecture(name)).modules():
        if isinstance(layer, nn.Conv2d):
            expected = math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels / layer.groups))
            count = layer.weight.numel()
            # Six standard errors of a standard deviation: wrong once in 10^7 seeds for some 100 layers.
            assert layer.weight.std(correction=0).item() == pytest.approx(expected, rel=6 / math.sqrt(2 * count))
            assert layer.bias is None or not layer.bias.any()
        elif isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.01)
            assert not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert not layer.bias.any()


def test_building_depends_on_the_global_seed_alone() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_model(load_architecture("mobilenetv3-small")).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["stem.0.weight"], states[2]["stem.0.weight"])


@pytest.mark.parametrize("name", SMALL)
def test_odd_input_sizes_work(name: str) -> None:
    network = build_model(load_architecture(name)).eval()
    with torch.no_grad():
        for height, width in ((32, 32), (33, 65), (71, 47)):
            assert network(torch.randn(1, 3, height, width)).shape == (1, 1000)


def test_building_on_the_meta_device_allocates_nothing() -> None:
    with torch.device("meta"):
        network = build_model(load_architecture("efficientnetv2-l"))
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("name", ["mobilenetv3-small", "efficientnetv2-s"])
def test_export_gives_the_same_function(name: str) -> None:
    network = build_model(load_architecture(name)).eval()
    x = torch.randn(1, 3, 32, 32)
    exported = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*SMALL, "mnasnet-b1", "efficientnetv2-s"])
def test_gradients_are_finite_and_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(load_architecture(name).replace(drop_path_rate=0)).train()
    nn.functional.cross_entropy(network(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_drop_path_acts_in_training_only() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3, 3)
    assert torch.equal(drop.eval()(x), x)
    dropped = drop.train()(x)
    per_sample = dropped.flatten(1)
    assert ((per_sample == 0).all(1) | (per_sample == 1 / 0.75).all(1)).all()
    # The share kept is within six standard deviations of 0.75: wrong once in 10^8 seeds.
    assert (per_sample[:, 0] > 0).float().mean().item() == pytest.approx(0.75, abs=6 * math.sqrt(0.25 * 0.75 / 4000))


def test_drop_path_makes_training_random_and_leaves_inference_alone() -> None:
    architecture = load_architecture("efficientnet-b0")
    network = build_model(architecture.replace(drop_path_rate=0.5))
    x = torch.randn(2, 3, 32, 32)
    branch = network.blocks.eval()
    assert torch.equal(branch(network.stem.eval()(x)), branch(network.stem(x)))
    rates = [module.rate for module in network.modules() if isinstance(module, DropPath)]
    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] <= 0.5
    assert not any(isinstance(m, DropPath) for m in build_model(architecture.replace(drop_path_rate=0)).modules())


@pytest.mark.parametrize(
    ("block", "channels", "squeezed", "gate"),
    [
        (MBConv(out_channels=24, se_ratio=0.25), 6 * 24, 6, nn.Sigmoid),
        (MBConv(out_channels=24, se_ratio=0.25, expand_ratio=1), 24, 6, nn.Sigmoid),
        (FusedMBConv(out_channels=24, se_ratio=0.25, expand_ratio=4), 4 * 24, 6, nn.Sigmoid),
        (FusedMBConv(out_channels=40, se_ratio=0.25, expand_ratio=1), 40, 6, nn.Sigmoid),
        (MBConv(out_channels=24, se_ratio=0.25, se_variant="mobilenetv3"), 6 * 24, 40, nn.Hardsigmoid),
        (MBConv(out_channels=24, se_ratio=0.25, se_variant="mobilenetv3", expand_ratio=1), 24, 8, nn.Hardsigmoid),
        (MBConv(out_channels=24, se_ratio=0.01), 6 * 24, 1, nn.Sigmoid),
    ],
)
def test_squeeze_widths(block: MBConv, channels: int, squeezed: int, gate: type[nn.Module]) -> None:
    # 24 input channels. 0.25 x 144 = 36 is rounded to 40: the nearest multiples of 8 tie, and ties go up.
    (layer,) = [m for m in block.build(24, BuildContext()).modules() if isinstance(m, SqueezeExcite)]
    assert (layer.reduce.in_channels, layer.expand.out_channels) == (channels, channels)
    assert (layer.reduce.out_channels, layer.expand.in_channels) == (squeezed, squeezed)
    assert isinstance(layer.gate, gate)
    assert isinstance(layer.act, nn.ReLU if block.se_variant == "mobilenetv3" else type(layer.act))


@pytest.mark.parametrize(
    ("channels", "rounded"), [(1, 8), (8, 8), (11, 16), (12, 16), (19, 24), (36, 40), (184.0, 184), (87.9, 88)]
)
def test_round_channels(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded
    assert round_channels(channels) >= 0.9 * channels


def test_shortcut_only_where_shapes_allow() -> None:
    def has_shortcut(block: MBConv) -> bool:
        return type(block.build(16, BuildContext())).__name__ == "Residual"

    assert has_shortcut(MBConv(out_channels=16))
    assert not has_shortcut(MBConv(out_channels=16, stride=2))
    assert not has_shortcut(MBConv(out_channels=24))
