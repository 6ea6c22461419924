"""The built-in networks against the published ones: the same counts, and the same function."""

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


# Counted on the reference models (torchvision 0.29, timm 1.0.31); MACs are convolutions, linear layers and, of
# MobileViT, the two matrix products of attention (see test_families.py for how they come about).
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
    "resnet18": Golden(_torchvision("resnet18"), 224, 11_689_512, 1_814_073_344, 64),
    "resnet34": Golden(_torchvision("resnet34"), 224, 21_797_672, 3_663_761_408, 64),
    "resnet50": Golden(_torchvision("resnet50"), 224, 25_557_032, 4_089_184_256, 64),
    "resnext50-32x4d": Golden(_torchvision("resnext50_32x4d"), 224, 25_028_904, 4_230_479_872, 64),
    "shufflenetv2-x0.5": Golden(_torchvision("shufflenet_v2_x0_5"), 224, 1_366_792, 40_476_448, 96),
    "shufflenetv2-x1.0": Golden(_torchvision("shufflenet_v2_x1_0"), 224, 2_278_604, 144_907_992, 96),
    "convnext-tiny": Golden(_torchvision("convnext_tiny"), 224, 28_589_128, 4_455_531_264, 64),
    "convnext-small": Golden(_torchvision("convnext_small"), 224, 50_223_688, 8_683_712_256, 64),
    "convnext-base": Golden(_torchvision("convnext_base"), 224, 88_591_464, 15_354_729_472, 64),
    "convnext-large": Golden(_torchvision("convnext_large"), 224, 197_767_336, 34_361_433_600, 64),
    "mobilevit-xxs": Golden(_timm("mobilevit_xxs"), 256, 1_272_024, 407_364_096, 80),
    "mobilevit-xs": Golden(_timm("mobilevit_xs"), 256, 2_317_848, 1_025_911_808, 80),
    "mobilevit-s": Golden(_timm("mobilevit_s"), 256, 5_578_632, 2_000_831_488, 80),
}
# No published implementation is at hand; the paper's table is the witness.
BY_THE_PAPER = {"shufflenetv1-g3-x1.0"}


def randomise(model: nn.Module, pixels: int) -> None:
    """Random affine parameters, and running statistics as of random images, so that the signal reaches the end.

    Convolutions are scaled down, which makes variances so small that a wrong eps shows.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
        elif isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, nn.Conv2d):
            module.weight.data *= 0.2
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.5, 1.5)
    with torch.no_grad():
        model.train()(torch.randn(8, 3, pixels, pixels))
    model.eval()


def copy_state(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and buffers in order; names differ between libraries, order and shapes may not."""
    theirs, ours = in_order_of_use(source.state_dict()), target.state_dict()
    shapes = [tuple(value.shape) for value in theirs.values()]
    assert [tuple(value.shape) for value in ours.values()] == shapes
    target.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))


def in_order_of_use(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """torchvision's ConvNeXt lists the layer scale, [C, 1, 1], before the branch that it scales; ours, [C], after."""
    ordered: dict[str, torch.Tensor] = {}
    scale: tuple[str, torch.Tensor] | None = None
    for name, value in state.items():
        if scale and not name.startswith(f"{scale[0]}.block."):
            ordered[f"{scale[0]}.layer_scale"] = scale[1]
            scale = None
        if name.endswith(".layer_scale"):
            scale = name.removesuffix(".layer_scale"), value.flatten()
        else:
            ordered[name] = value
    return ordered


def test_these_are_the_references() -> None:
    assert set(references()) == {*GOLDEN, *BY_THE_PAPER}
    assert list(references()) == sorted(references())


@pytest.mark.parametrize("name", references())
def test_reference_is_called_by_its_name(name: str) -> None:
    assert load_architecture(name).name == name


@pytest.mark.parametrize("name", GOLDEN)
def test_counts_equal_the_golden_table(name: str) -> None:
    architecture, golden = load_architecture(name), GOLDEN[name]
    cost = count_cost(architecture)
    assert architecture.resolution == golden.resolution
    assert (cost.params, cost.macs) == (golden.params, golden.macs)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "convnext-large" else ()) for name in GOLDEN]
)
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


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("convnext")])
def test_drop_path_rates_of_convnext_equal_torchvision(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = build_model(load_architecture(name)), GOLDEN[name].build()
    rates = [float(m.rate) for m in ours.modules() if type(m).__name__ == "DropPath"]
    expected = [float(m.p) for m in theirs.modules() if type(m).__name__ == "StochasticDepth" and m.p > 0]
    assert rates == pytest.approx(expected)


def test_shufflenetv1_is_that_of_the_paper() -> None:
    """Zhang et al. 2018, table 1: stages of 240, 480, 960 channels; complexity 137 M (table 2) to 140 M (table 1)."""
    architecture = load_architecture("shufflenetv1-g3-x1.0")
    assert [(stage.out_channels, len(stage.blocks), stage.stride) for stage in architecture.stages] == [
        (240, 4, 2),
        (480, 8, 2),
        (960, 4, 2),
    ]
    cost = count_cost(architecture)
    assert 137e6 <= cost.macs <= 140e6
