"""The ten built-in networks against the published ones: the same counts, and the same function."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import torchvision
from torch import nn

from search_space import build_model, count_cost, load_architecture, references


class Golden(NamedTuple):
    build: Callable[[], nn.Module]
    resolution: int
    params: int
    macs: int
    test_pixels: int
    """At how many pixels the logits are compared: fewer where the network is large."""


def _torchvision(name: str) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None)


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False)


# Counted on the reference models (torchvision 0.29, timm 1.0.31); MACs are convolutions and linear layers.
GOLDEN = {
    "mobilenetv1": Golden(_timm("mobilenetv1_100"), 224, 4_231_976, 568_740_352, 96),
    "mobilenetv2": Golden(_torchvision("mobilenet_v2"), 224, 3_504_872, 300_774_272, 96),
    "mobilenetv3-large": Golden(_torchvision("mobilenet_v3_large"), 224, 5_483_032, 216_589_760, 96),
    "mobilenetv3-small": Golden(_torchvision("mobilenet_v3_small"), 224, 2_542_856, 56_510_400, 96),
    "mnasnet-a1": Golden(_timm("mnasnet_a1"), 224, 3_887_038, 311_579_072, 96),
    "mnasnet-b1": Golden(_torchvision("mnasnet1_0"), 224, 4_383_312, 314_415_872, 96),
    "efficientnet-b0": Golden(_torchvision("efficientnet_b0"), 224, 5_288_548, 385_814_752, 96),
    "efficientnetv2-s": Golden(_torchvision("efficientnet_v2_s"), 384, 21_458_488, 8_365_617_152, 64),
    "efficientnetv2-m": Golden(_torchvision("efficientnet_v2_m"), 480, 54_139_356, 24_582_460_384, 64),
    "efficientnetv2-l": Golden(_torchvision("efficientnet_v2_l"), 480, 118_515_272, 56_079_699_008, 64),
}


def randomise(model: nn.Module, pixels: int) -> None:
    """Random affine parameters, and running statistics as of random images, so that the signal reaches the end.

    Convolutions are scaled down, which makes variances so small that a wrong eps shows.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
        elif isinstance(module, nn.Conv2d):
            module.weight.data *= 0.2
    with torch.no_grad():
        model.train()(torch.randn(8, 3, pixels, pixels))
    model.eval()


def copy_state(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and buffers in order; names differ between libraries, order and shapes may not."""
    theirs, ours = source.state_dict(), target.state_dict()
    shapes = [tuple(value.shape) for value in theirs.values()]
    assert [tuple(value.shape) for value in ours.values()] == shapes
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))


def test_there_are_ten_references() -> None:
    assert set(references()) == set(GOLDEN)
    assert list(references()) == sorted(references())


@pytest.mark.parametrize("name", GOLDEN)
def test_reference_is_called_by_its_name(name: str) -> None:
    assert load_architecture(name).name == name


@pytest.mark.parametrize("name", GOLDEN)
def test_counts_equal_the_golden_table(name: str) -> None:
    architecture, golden = load_architecture(name), GOLDEN[name]
    cost = count_cost(architecture)
    assert architecture.resolution == golden.resolution
    assert (cost.params, cost.macs) == (golden.params, golden.macs)


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_equal_the_published_network(name: str) -> None:
    golden = GOLDEN[name]
    torch.manual_seed(0)
    theirs = golden.build()
    randomise(theirs, golden.test_pixels)
    ours = build_model(load_architecture(name)).eval()
    copy_state(theirs, ours)
    assert sum(p.numel() for p in ours.parameters()) == golden.params
    x = torch.randn(2, 3, golden.test_pixels, golden.test_pixels)
    with torch.no_grad():
        expected, logits = theirs(x), ours(x)
    assert logits.shape == (2, 1000)
    # Vacuous if the two images gave the same logits, or none at all.
    assert (expected[0] - expected[1]).abs().max() > 0.1 * expected.abs().max() > 0
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", GOLDEN)
def test_norm_constants_equal_the_published_network(name: str) -> None:
    def constants(model: nn.Module) -> list[float]:
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        return [value for norm in norms for value in (norm.eps, norm.momentum)]

    with torch.device("meta"):
        theirs, ours = GOLDEN[name].build(), build_model(load_architecture(name))
    assert constants(ours) == pytest.approx(constants(theirs))


@pytest.mark.parametrize("name", ["mobilenetv2", "mnasnet-b1", "mobilenetv3-large", "efficientnet-b0"])
def test_dropout_rate_equals_torchvision(name: str) -> None:
    def rates(model: nn.Module) -> list[float]:
        return [m.p for m in model.modules() if isinstance(m, nn.Dropout)]

    with torch.device("meta"):
        assert rates(build_model(load_architecture(name))) == rates(GOLDEN[name].build())


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnetv2-s", "efficientnetv2-m", "efficientnetv2-l"])
def test_drop_path_rates_equal_torchvision(name: str) -> None:
    def rates(model: nn.Module) -> list[float]:
        return [float(m.rate) for m in model.modules() if type(m).__name__ == "DropPath"]

    with torch.device("meta"):
        ours, theirs = build_model(load_architecture(name)), GOLDEN[name].build()
    blocks = [m for m in theirs.modules() if type(m).__name__ in ("MBConv", "FusedMBConv") and m.use_res_connect]
    expected = [float(m.stochastic_depth.p) for m in blocks if m.stochastic_depth.p > 0]
    assert rates(ours) == pytest.approx(expected)
