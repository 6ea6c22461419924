"""Blocks of the ResNet, ShuffleNet, ConvNeXt and MobileViT families, by hand: wiring, sizes, costs, initial weights."""

from __future__ import annotations

import warnings
from typing import cast

import pytest
import timm
import torch
import torch.nn.functional as F
from support import SMALL_SPACE, space
from timm.layers import set_fused_attn
from torch import nn

from search_space import Architecture, Block, InputError, Stage, build_model, count_cost, load_architecture
from search_space.blocks.channel_shuffle import ChannelShuffle
from search_space.blocks.convnext import ConvNeXt, LayerScale
from search_space.blocks.mobilevit import MobileViT, OverPatches, SelfAttention
from search_space.blocks.resnet import ResNetBasic, ResNetBottleneck
from search_space.blocks.shufflenetv1 import ShuffleNetV1
from search_space.blocks.shufflenetv2 import ShuffleNetV2
from search_space.branches import Concat, PassOn, Sum
from search_space.component import component_types
from search_space.cost import count_module, part_cost
from search_space.head import Head, PooledNormHead
from search_space.layers import BuildContext, DropPath, TruncatedConv2d, TruncatedLinear
from search_space.network import initialise
from search_space.outline import Layer, outline_of
from search_space.parts import PartShape
from search_space.stem import ConvPoolStem, PatchifyStem, Stem

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis


def macs(block: Block, in_channels: int, size: int) -> int:
    return part_cost(PartShape(block, in_channels, size, block.out_channels)).macs


# ResNet.


def test_bottleneck_widths_are_those_of_the_resnext_paper() -> None:
    """Xie et al. 2017, table 2: at 256 channels, 1×64d, 2×40d, 4×24d, 8×14d, 32×4d."""
    for groups, base_width in ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4)):
        block = ResNetBottleneck(out_channels=256, groups=groups, base_width=base_width)
        middle = block.layers(256, BuildContext())[1]
        conv = cast(nn.Conv2d, cast(nn.Sequential, middle)[0])
        assert (conv.groups, conv.out_channels) == (groups, groups * base_width)


def test_resnet_costs_by_hand() -> None:
    assert macs(ResNetBasic(out_channels=16), 16, 4) == 2 * 9 * 16 * 16 * 16
    assert macs(ResNetBasic(out_channels=32, stride=2), 16, 4) == (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32) * 4
    wide = ResNetBottleneck(out_channels=64, groups=4, base_width=32)  # 4 groups of 64 / 4 · 32 / 64 = 8 channels
    assert macs(wide, 64, 4) == (64 * 32 + 9 * 32 * 8 + 32 * 64) * 16


# ShuffleNet.


def test_channel_shuffle_deals_the_groups_out() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert ChannelShuffle(3)(x).flatten().tolist() == [0, 2, 4, 1, 3, 5]


@torch.no_grad()
def test_half_of_the_channels_pass_through_shufflenetv2() -> None:
    x = torch.randn(2, 16, 5, 5)
    out = ShuffleNetV2(out_channels=16).build(16, BuildContext()).eval()(x)
    assert torch.equal(out[:, ::2], x[:, :8])


def test_shufflenetv2_needs_an_even_width() -> None:
    with pytest.raises(InputError, match=r"^out_channels of shufflenetv2 must be even, got 17; use 16 or 18$"):
        ShuffleNetV2(out_channels=17)


def test_shufflenetv1_by_hand() -> None:
    # 24 channels at 4 px -> 240: 216 of them by the branch, whose middle has 60; the first 1×1 is not grouped.
    first = ShuffleNetV1(out_channels=240, stride=2, first_groups=1)
    assert macs(first, 24, 4) == 24 * 60 * 16 + 9 * 60 * 4 + 60 * 216 // 3 * 4
    assert macs(ShuffleNetV1(out_channels=240), 240, 4) == (240 * 60 // 3 + 9 * 60 + 60 * 240 // 3) * 16


@torch.no_grad()
def test_the_shortcuts_of_shufflenetv1() -> None:
    x = torch.randn(2, 24, 6, 6)
    grown = ShuffleNetV1(out_channels=240, stride=2).build(24, BuildContext()).eval()(x)
    torch.testing.assert_close(grown[:, :24], F.relu(F.avg_pool2d(x, 3, 2, 1)))
    kinds = {
        channels: type(cast(nn.Sequential, ShuffleNetV1(out_channels=channels).build(24, BuildContext()))[0]).__name__
        for channels in (12, 24, 48)
    }
    assert kinds == {12: "Sequential", 24: "Residual", 48: "Concat"}


def test_groups_that_do_not_divide_are_brought_down() -> None:
    assert (
        macs(ShuffleNetV1(out_channels=32, groups=4, first_groups=4), 10, 4) == (10 * 8 // 2 + 9 * 8 + 8 * 22 // 2) * 16
    )


def test_groups_of_the_first_convolution_said_twice_are_one_value() -> None:
    assert ShuffleNetV1(out_channels=24, first_groups=3) == ShuffleNetV1(out_channels=24)


# ConvNeXt.


def test_convnext_by_hand() -> None:
    assert macs(ConvNeXt(out_channels=16), 16, 4) == (49 * 16 + 2 * 4 * 16 * 16) * 16
    assert macs(ConvNeXt(out_channels=32, stride=2), 16, 5) == (4 * 16 * 32 + 49 * 32 + 2 * 4 * 32 * 32) * 4
    params = part_cost(PartShape(ConvNeXt(out_channels=16), 16, 4, 16)).params
    assert params == (49 + 1) * 16 + 2 * 16 + (16 + 1) * 64 + (64 + 1) * 16 + 16


def test_downsampling_without_padding_rounds_down() -> None:
    assert [ConvNeXt(out_channels=8, stride=2).out_size(size) for size in (2, 3, 7)] == [1, 1, 3]
    assert [PatchifyStem(out_channels=8).out_size(size) for size in (4, 33, 225)] == [1, 8, 56]
    assert [ConvPoolStem(out_channels=8).out_size(size) for size in (4, 33, 225)] == [1, 9, 57]
    stages = tuple(Stage((ConvNeXt(out_channels=8 * 2**i, stride=2),)) for i in range(3))
    for size in (32, 47, 63, 65):
        network = Architecture("a", PatchifyStem(out_channels=8), stages, PooledNormHead(), resolution=size)
        assert count_cost(network).macs == count_module(build_model(network), (3, size, size)).macs


def test_layer_scale_begins_where_it_is_told_and_can_be_left_out() -> None:
    def scales(block: ConvNeXt) -> list[LayerScale]:
        return [m for m in block.build(8, BuildContext()).modules() if isinstance(m, LayerScale)]

    (scale,) = scales(ConvNeXt(out_channels=8, layer_scale=0.25))
    assert scale.scale.tolist() == [0.25] * 8
    assert scale(torch.ones(1, 2, 2, 8)).unique().item() == 0.25
    assert not scales(ConvNeXt(out_channels=8, layer_scale=0))
    assert ConvNeXt(out_channels=8, layer_scale=0.25).at_inference() == ConvNeXt(out_channels=8)


# MobileViT.


def test_mobilevit_by_hand() -> None:
    block = MobileViT(out_channels=16, transformer_dim=24, transformer_depth=2, mlp_ratio=2)
    tokens, area = 9, 4  # 6 px are 3 × 3 patches of 2 × 2
    layer = area * tokens * (24 * 72 + 24 * 24 + 2 * 24 * 48) + 2 * area * tokens * tokens * 24
    convolutions = 36 * (9 * 16 * 16 + 16 * 24 + 24 * 16 + 9 * 32 * 16)
    assert macs(block, 16, 6) == convolutions + 2 * layer
    assert macs(block, 16, 5) == 25 * convolutions // 36 + 2 * layer  # interpolated to 6 px for the transformer alone


def test_pixels_attend_to_those_at_their_own_place_in_a_patch() -> None:
    """With `inner` a sum over tokens, each pixel becomes the sum of every second one."""

    class Total(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(2, keepdim=True).expand_as(x)

    x = torch.randn(2, 3, 4, 6)
    out = OverPatches(Total(), 2)(x)
    for row in (0, 1):
        for column in (0, 1):
            expected = x[:, :, row::2, column::2].sum((2, 3), keepdim=True)
            torch.testing.assert_close(out[:, :, row::2, column::2], expected.expand(-1, -1, 2, 3))


def test_heads_must_divide_the_transformer() -> None:
    with pytest.raises(
        InputError, match="transformer_dim must be a multiple of num_heads, 5, got 96; change one of them"
    ):
        MobileViT(out_channels=16, num_heads=5)


def test_choices_that_do_not_go_together_are_refused_with_their_place() -> None:
    text = SMALL_SPACE.replace("fused_mbconv]}", "mobilevit]}, num_heads: {choice: [4, 5]}, transformer_dim: 80")
    assert space(text)
    with pytest.raises(
        InputError, match=r"^transformer_dim must be a multiple of num_heads, 5, got 84 \(space.yaml:8, "
    ):
        space(text.replace("transformer_dim: 80", "transformer_dim: 84"))
    with pytest.raises(InputError, match=r"^out_channels of shufflenetv2 must be even, got 17 \(space.yaml:8, "):
        space(
            SMALL_SPACE.replace("fused_mbconv", "shufflenetv2").replace(
                "out_channels: 16, stride: 1", "out_channels: 17"
            )
        )


# The transformer's linear layers for one of the four places of a 2×2 patch, and no attention: what a counter gives that
# takes the first dimension, images × places, for the batch. One finds these figures, too; they are too few.
ONE_PLACE = {"mobilevit-xxs": 228_909_568, "mobilevit-xs": 683_027_456, "mobilevit-s": 1_275_544_576}


@pytest.mark.parametrize("name", ONE_PLACE)
def test_mobilevit_counts_equal_those_of_fvcore_on_timm(name: str) -> None:
    """With timm's attention written out: convolutions, linear layers, and both matrix products."""
    set_fused_attn(False)
    try:
        theirs = timm.create_model(name.replace("-", "_"), pretrained=False).eval()
    finally:
        set_fused_attn(True)
    analysis = FlopCountAnalysis(theirs, torch.zeros(1, 3, 256, 256))
    by_operator = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
    linear, head = by_operator["linear"], theirs.head.fc.weight.numel()
    assert by_operator["conv"] + head + (linear - head) // 4 == ONE_PLACE[name]
    assert count_cost(load_architecture(name)).macs == by_operator["conv"] + linear + by_operator["matmul"]


# All of them.


@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_branches_are_counted_as_in_one_piece(size: int) -> None:
    """Peak memory, too: what waits while another branch runs."""
    conv = [nn.Conv2d(8, channels, 3, padding=1) for channels in (4, 16, 4, 6, 8, 6)]
    modules = [
        Sum(nn.Sequential(conv[1], nn.ReLU(), nn.Conv2d(16, 4, 1)), conv[0], 0.0),
        Concat(nn.Sequential(conv[1], nn.Conv2d(16, 4, 1)), conv[0]),
        Concat(conv[0], nn.Sequential(conv[1], nn.Conv2d(16, 4, 1))),
        PassOn(nn.Conv2d(3, 7, 1), kept=5, begin=5),
        PassOn(nn.Sequential(nn.Conv2d(8, 40, 1), nn.Conv2d(40, 2, 1)), kept=8, begin=0),
        nn.Sequential(nn.Conv2d(8, 8, 1), PassOn(nn.Conv2d(2, 2, 1), kept=1, begin=6), nn.Conv2d(3, 30, 1)),
    ]
    for module in modules:
        module.eval().requires_grad_(False)
        assert outline_of(module).count((8, size, size)) == Layer(module).count((8, size, size))


def test_fused_attention_counts_both_products() -> None:
    attention = SelfAttention(12, 3).eval().requires_grad_(False)
    initialise(attention)
    cost = count_module(attention, (4, 9, 12))
    assert cost.macs == 4 * (9 * 12 * 36 + 9 * 12 * 12 + 2 * 9 * 9 * 12)
    expected = nn.MultiheadAttention(12, 3, batch_first=True)
    expected.in_proj_weight, expected.in_proj_bias = attention.qkv.weight, attention.qkv.bias
    expected.out_proj.weight, expected.out_proj.bias = attention.project.weight, attention.project.bias
    x = torch.randn(2, 4, 9, 12)
    with torch.no_grad():
        flat = x.flatten(0, 1)
        torch.testing.assert_close(attention(x), expected(flat, flat, flat)[0].view_as(x))


def test_each_component_says_how_it_begins() -> None:
    torch.manual_seed(0)
    for layer in build_model(load_architecture("convnext-tiny")).modules():
        if isinstance(layer, (TruncatedConv2d, TruncatedLinear)):
            assert layer.bias is not None
            assert not layer.bias.any()
            # A spread within 2 % for the 1,000 to 2 M weights of a layer, six standard errors of the smallest: 13 %.
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.2 if layer.weight.numel() < 20_000 else 0.02)
        assert not (isinstance(layer, (nn.Conv2d, nn.Linear)) and not hasattr(layer, "initialise"))
    transformer = build_model(load_architecture("mobilevit-xxs"))
    linear = [layer for layer in transformer.modules() if isinstance(layer, TruncatedLinear)]
    assert len(linear) == 4 * (2 + 4 + 3)


@pytest.mark.parametrize(
    ("block", "count"),
    [
        (ResNetBasic(out_channels=16), 1),
        (ResNetBottleneck(out_channels=32, stride=2), 1),
        (ShuffleNetV1(out_channels=16), 1),
        (ShuffleNetV1(out_channels=32, stride=2), 0),
        (ShuffleNetV2(out_channels=16), 0),
        (ConvNeXt(out_channels=32, stride=2), 1),
        (MobileViT(out_channels=16, transformer_depth=3), 6),
    ],
)
def test_stochastic_depth_is_where_something_is_added(block: Block, count: int) -> None:
    module = block.build(16, BuildContext(drop_path=0.25))
    assert [m.rate for m in module.modules() if isinstance(m, DropPath)] == [0.25] * count


STEMS = [kind(out_channels=8) for kind in component_types("stem").values()]  # type: ignore[call-arg]


@pytest.mark.parametrize("stem", STEMS, ids=lambda stem: stem.type)
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_stems_give_the_sizes_they_declare(stem: Stem, stride: int) -> None:
    part = type(stem)(out_channels=8, stride=stride)
    module = part.build(3, BuildContext()).eval()
    initialise(module)
    for size in (4, 5, 30, 33):
        assert module(torch.randn(1, 3, size, size)).shape == (1, 8, part.out_size(size), part.out_size(size))


def test_the_pool_goes_with_the_stride() -> None:
    def pools(stride: int) -> int:
        stem = ConvPoolStem(out_channels=8, stride=stride).build(3, BuildContext())
        return sum(isinstance(module, nn.MaxPool2d) for module in stem.modules())

    assert [pools(stride) for stride in (1, 2, 3, 4)] == [0, 0, 0, 1]


@pytest.mark.parametrize("head", [kind() for kind in component_types("head").values()], ids=lambda head: head.type)
def test_heads_give_logits(head: Head) -> None:
    module = head.build(8, 5, BuildContext()).eval()
    initialise(module)
    assert module(torch.randn(2, 8, 3, 3)).shape == (2, 5)
