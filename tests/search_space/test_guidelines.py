"""ShuffleNetV2's guidelines as figures: by hand for single layers, and for what the paper says of its examples."""

from __future__ import annotations

import json
import math

import pytest

from nas.cli import run
from search_space import Block, load_architecture
from search_space.blocks.conv import Conv
from search_space.blocks.identity import Identity
from search_space.blocks.mbconv import MBConv
from search_space.blocks.mobilevit import MobileViT
from search_space.blocks.resnet import ResNetBasic, ResNetBottleneck
from search_space.blocks.shufflenetv1 import ShuffleNetV1
from search_space.blocks.shufflenetv2 import ShuffleNetV2
from search_space.component import component_types, from_dict
from search_space.cost import part_cost
from search_space.guidelines import Guidelines, part_guidelines
from search_space.parts import PartShape, parts


def of(block: Block, in_channels: int, size: int = 14) -> Guidelines:
    return part_guidelines(PartShape(block, in_channels, size, block.out_channels))


def test_a_pointwise_convolution_by_hand() -> None:
    """Ma et al. 2018, equation 1: hw(c1 + c2) + c1·c2 elements, at least 2·√(hwB) + B / hw."""
    figures = of(Identity(out_channels=96), 24)  # 1×1 convolution and batch norm
    pixels, product = 14 * 14, 24 * 96
    accessed = pixels * (24 + 96) + product
    assert figures.memory_access_bytes == 4 * accessed
    assert figures.width_excess == pytest.approx(accessed / (2 * math.sqrt(pixels * pixels * product) + product))
    assert figures.widths == (24, 96)
    assert (figures.macs, figures.operations, figures.longest_chain) == (pixels * product, 1, 1)
    assert figures.element_wise_share == figures.depthwise_share == 0
    assert len(figures.suggestions) == 1
    assert figures.suggestions[0].startswith("G1: 1×1 convolutions between 24 and 96 channels access 1.2")
    assert of(Identity(out_channels=24, stride=1), 24, 1).memory_access_bytes == 0  # it does nothing
    equal = of(MBConv(out_channels=24, expand_ratio=1), 24)
    assert equal.width_excess == 1


def test_groups_by_hand() -> None:
    """Equation 2: hw·c1 + B·g/c1 + B/hw, against the same with one group."""
    block = ResNetBottleneck(out_channels=256, groups=32, base_width=4)
    figures = of(block, 256)
    pixels, weights = 14 * 14, 9 * 128 * 4
    assert figures.groups == 32
    assert figures.group_excess == pytest.approx((2 * pixels * 128 + weights) / (pixels * (128 + 4) + weights))
    assert any(line.startswith("G2: 32 groups access 1.8") for line in figures.suggestions)
    assert of(ResNetBottleneck(out_channels=256), 256).groups == 1
    assert of(MBConv(out_channels=24), 24).groups == 1  # depthwise is element-wise to the paper


def test_branches_stand_beside_the_longest_chain() -> None:
    def beside(block: Block, in_channels: int) -> tuple[int, int]:
        figures = of(block, in_channels)
        return figures.operations, figures.longest_chain

    assert beside(Conv(out_channels=16), 16) == (1, 1)
    assert beside(ResNetBasic(out_channels=16), 16) == (2, 2)
    assert beside(ResNetBasic(out_channels=32, stride=2), 16) == (3, 2)
    assert beside(ShuffleNetV2(out_channels=32, stride=2), 16) == (5, 3)
    assert beside(ShuffleNetV1(out_channels=24, stride=2), 12) == (4, 3)
    assert beside(MBConv(out_channels=16, se_ratio=0.25), 16) == (
        6,
        6,
    )  # expansion, depthwise, pool, 1×1, 1×1, projection
    # Local, to the transformer; queries with keys and values, scores, mix, projection, 2 linear; back, fusion.
    assert beside(MobileViT(out_channels=16, transformer_depth=1), 16) == (10, 10)


def test_element_wise_operations_by_hand() -> None:
    figures = of(Conv(out_channels=16), 16)
    pixels, weights = 14 * 14, 9 * 16 * 16
    relu = 2 * 16 * pixels
    assert figures.memory_access_bytes == 4 * (2 * 16 * pixels + weights + relu)
    assert figures.element_wise_share == pytest.approx(relu / (2 * 16 * pixels + weights + relu))
    # With a shortcut, x and the branch are read and their sum is written.
    assert of(MBConv(out_channels=24), 24).element_wise_share > of(MBConv(out_channels=32), 24).element_wise_share


def test_shufflenetv2_keeps_to_the_guidelines_better_than_shufflenetv1_and_mobilenetv2() -> None:
    """Section 2: ShuffleNetV1 violates G1 and G2, MobileNetV2 G1 and G4."""
    v2 = of(ShuffleNetV2(out_channels=116), 116, 28)
    v1 = of(ShuffleNetV1(out_channels=240), 240, 28)
    mobile = of(MBConv(out_channels=32), 32, 28)
    assert v2.width_excess == v2.group_excess == 1
    assert v1.group_excess > 1.1
    assert mobile.width_excess > 1.4
    assert v2.depthwise_share < mobile.depthwise_share


@pytest.mark.parametrize("name", sorted(component_types("block")))
def test_it_counts_what_the_cost_counts(name: str) -> None:
    for stride in (1, 2):
        block = from_dict("block", {"type": name, "out_channels": 32, "stride": stride})
        assert isinstance(block, Block)
        shape = PartShape(block, 16, 9, 32)
        assert part_guidelines(shape).macs == part_cost(shape).macs


@pytest.mark.parametrize("name", ["mobilenetv3-small", "shufflenetv1-g3-x1.0", "convnext-tiny", "mobilevit-xxs"])
def test_whole_networks(name: str) -> None:
    for shape in parts(load_architecture(name)):
        figures = part_guidelines(shape)
        assert figures.macs == part_cost(shape).macs
        assert figures.width_excess >= 1 - 1e-9
        assert figures.group_excess >= 1
        assert 0 <= figures.element_wise_share + figures.depthwise_share <= 1
        assert 1 <= figures.longest_chain <= figures.operations


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "resnext50-32x4d", "--guidelines", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["guidelines"]
    rows = shown["parts"]
    assert [row["part"] for row in rows] == ["stem", *["block"] * 16, "head"]
    assert sum(row["figures"]["memory_access_bytes"] for row in rows) == shown["network"]["memory_access_bytes"]
    assert (rows[1]["type"], rows[1]["groups"], rows[1]["figures"]["groups"]) == ("resnet_bottleneck", 32, 32)
    assert all(isinstance(row["suggestions"], list) for row in rows)
    assert run(["show", "resnext50-32x4d", "--guidelines"]) == 0
    printed = capsys.readouterr().out
    assert "ShuffleNetV2's guidelines" in printed
    assert "G2: 32 groups access" in printed
    assert run(["show", "resnext50-32x4d", "--json"]) == 0
    assert "guidelines" not in json.loads(capsys.readouterr().out)
