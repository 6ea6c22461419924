"""Counted cost: by hand for tiny modules, and as a sum over parts for whole networks."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from search_space import Architecture, Block, Cost, build_model, count_cost, load_architecture, load_space
from search_space.blocks.conv import Conv
from search_space.blocks.depthwise_separable import DepthwiseSeparable
from search_space.blocks.fused_mbconv import FusedMBConv
from search_space.blocks.mbconv import MBConv
from search_space.cost import count_module, part_cost
from search_space.head import PooledHead
from search_space.memory import peak_elements
from search_space.parts import PartShape, parts

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import ActivationCountAnalysis
    from fvcore.nn.jit_handles import generic_activation_jit

space_of = functools.cache(load_space)
IN = 8 * 4 * 4  # elements of the blocks' input: 8 channels of 4 x 4


def block_cost(block: Block) -> Cost:
    return part_cost(PartShape(block, 8, 4, block.out_channels))


def test_plain_convolution_by_hand() -> None:
    cost = block_cost(Conv(out_channels=16))
    assert cost.params == 9 * 8 * 16 + 2 * 16
    assert cost.macs == 9 * 8 * 16 * 16
    assert cost.activations == 16 * 16
    assert cost.peak_memory_bytes == 4 * (IN + 16 * 16)  # norm and ReLU act in place


def test_strided_convolution_by_hand() -> None:
    cost = block_cost(Conv(out_channels=16, stride=2))
    assert cost.macs == 9 * 8 * 16 * 4
    assert cost.peak_memory_bytes == 4 * (IN + 16 * 4)


def test_odd_sizes_round_up() -> None:
    cost = part_cost(PartShape(Conv(out_channels=16, stride=2), 8, 5, 16))
    assert cost.macs == 9 * 8 * 16 * 3 * 3


def test_mbconv_with_shortcut_by_hand() -> None:
    cost, wide = block_cost(MBConv(out_channels=8)), 48 * 16
    assert cost.params == 8 * 48 + 9 * 48 + 48 * 8 + 2 * (48 + 48 + 8)
    assert cost.macs == (8 * 48 + 9 * 48 + 48 * 8) * 16
    assert cost.activations == 2 * wide + 8 * 16
    assert cost.peak_memory_bytes == 4 * (IN + wide + wide)  # the input is kept through the depthwise convolution


def test_mbconv_without_shortcut_by_hand() -> None:
    assert block_cost(MBConv(out_channels=16)).peak_memory_bytes == 4 * 2 * 48 * 16
    assert block_cost(MBConv(out_channels=8, stride=2)).peak_memory_bytes == 4 * (48 * 16 + 48 * 4)


def test_mbconv_with_squeeze_excite_by_hand() -> None:
    plain, cost = block_cost(MBConv(out_channels=8)), block_cost(MBConv(out_channels=8, se_ratio=0.25))
    squeezed = 2  # a quarter of the block's 8 input channels
    assert cost.params - plain.params == 2 * 48 * squeezed + squeezed + 48
    assert cost.macs - plain.macs == 2 * 48 * squeezed
    assert cost.activations - plain.activations == squeezed + 48
    assert cost.peak_memory_bytes == plain.peak_memory_bytes


def test_fused_mbconv_by_hand() -> None:
    cost = block_cost(FusedMBConv(out_channels=8, expand_ratio=4))
    assert cost.macs == (9 * 8 * 32 + 32 * 8) * 16
    assert cost.peak_memory_bytes == 4 * (IN + 32 * 16 + 8 * 16)
    one = block_cost(FusedMBConv(out_channels=8, expand_ratio=1))
    assert one.params == 9 * 8 * 8 + 2 * 8
    assert one.peak_memory_bytes == 4 * 2 * IN


def test_depthwise_separable_by_hand() -> None:
    cost = block_cost(DepthwiseSeparable(out_channels=16))
    assert cost.macs == (9 * 8 + 8 * 16) * 16
    assert cost.peak_memory_bytes == 4 * (IN + 16 * 16)


def test_head_by_hand() -> None:
    head = PooledHead(conv_channels=32, hidden_channels=64, dropout=0.5)
    cost = part_cost(PartShape(head, 8, 4, 10))
    assert cost.params == 8 * 32 + 2 * 32 + 32 * 64 + 64 + 64 * 10 + 10
    assert cost.macs == 8 * 32 * 16 + 32 * 64 + 64 * 10
    assert cost.activations == 32 * 16 + 64 + 10
    assert cost.peak_memory_bytes == 4 * (IN + 32 * 16)


def test_matrix_products_are_counted_in_any_module() -> None:
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ x.transpose(1, 2)

    assert count_module(Product(), (3, 5)).macs == 3 * 5 * 3


def test_units() -> None:
    cost = Cost(1, 2, 3, 4_000_000)
    assert cost.memory_mb == 4
    assert cost.metrics() == {"params": 1, "macs": 2, "activations": 3, "memory_mb": 4}


def test_parts_follow_one_another() -> None:
    architecture = load_architecture("mobilenetv3-large").replace(resolution=65)
    shapes = parts(architecture)
    assert len(shapes) == 17
    network = build_model(architecture).eval()
    x = torch.zeros(1, 3, 65, 65)
    for shape, module in zip(shapes, [network.stem, *network.blocks, network.head], strict=True):
        assert tuple(x.shape) == (1, shape.in_channels, shape.size, shape.size)
        x = module(x)
    total = [sum(getattr(part_cost(s), name) for s in shapes) for name in ("params", "macs", "activations")]
    cost = count_cost(architecture)
    assert [cost.params, cost.macs, cost.activations] == total
    assert cost.peak_memory_bytes == max(part_cost(s).peak_memory_bytes for s in shapes)


@pytest.mark.parametrize(
    "preset",
    [
        "mobilenetv2",
        "mobilenetv3",
        "mnasnet",
        "efficientnet",
        "efficientnetv2",
        "resnext",
        "shufflenetv2",
        "convnext",
        "mobilevit",
        "mobile-mixed",
    ],
)
def test_sum_over_parts_is_the_count_of_the_whole(preset: str) -> None:
    space = space_of(preset)
    architecture = space.decode(space.sample(np.random.default_rng(1))).replace(resolution=75, num_classes=10)
    check_whole(architecture.replace(input_channels=4), (4, 75, 75))


@pytest.mark.parametrize("name", ["mobilenetv1", "mobilenetv3-small", "mnasnet-a1", "efficientnet-b0"])
def test_reference_counts_the_same_as_a_whole(name: str) -> None:
    check_whole(load_architecture(name), (3, 224, 224))


def check_whole(architecture: Architecture, shape: tuple[int, ...]) -> None:
    cost = count_cost(architecture)
    network = build_model(architecture).eval()
    x = torch.zeros(1, *shape)
    # The counter knows no fused attention on the CPU, and counts two for each multiply–add.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
        network(x)
    activations = ActivationCountAnalysis(network, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    activations.set_op_handle("aten::scaled_dot_product_attention", generic_activation_jit("attention"))
    assert cost.params == sum(p.numel() for p in network.parameters())
    assert cost.macs == operations.get_total_flops() // 2
    assert cost.activations == activations.total()
    assert cost.peak_memory_bytes == 4 * peak_elements(network, shape)[0].alone


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(8, 6, 3, stride=2, padding=1, dilation=2),
        nn.Conv2d(8, 12, (3, 5), stride=(2, 1), padding=(0, 2), groups=4),
        nn.Conv2d(8, 6, 4, padding="same", dilation=3),
        nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv3d(8, 6, 2, stride=(1, 2, 3)),
        nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1),
    ],
    ids=repr,
)
def test_convolutions_of_all_kinds(layer: Any) -> None:
    """Most are not computed while they are counted; the layer behind fails if the shape is not right."""
    sizes = (13, 12, 11)[: layer.weight.dim() - 2]
    output = layer(torch.zeros(1, 8, *sizes))
    behind = nn.Linear(output.shape[-1], 1)
    counted = count_module(nn.Sequential(layer, behind), (8, *sizes))
    # Each weight of a filter once for each place of the output, or if transposed of the input.
    places = 8 * 13 * 12 if layer.transposed else output.numel()
    assert counted.macs == layer.weight[0].numel() * places + output.numel()
    assert counted.activations == output.numel() + output.numel() // output.shape[-1]


@pytest.mark.parametrize(("layer", "shape"), [(nn.Conv2d(8, 6, 5), (8, 4, 4)), (nn.Conv2d(8, 6, 1), (7, 4, 4))])
def test_what_pytorch_refuses_is_not_counted(layer: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        count_module(layer, shape)
