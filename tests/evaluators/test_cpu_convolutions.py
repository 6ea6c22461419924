from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from evaluators.cpu_convolutions import speed_up_convolutions
from search_space.layers import Conv2dSame


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("kernel", [2, 3, 5, 7, 9, (5, 3), (1, 7)])
@pytest.mark.parametrize("less", [-1, 0, 1, 4])
def test_depthwise_gradients_are_those_of_pytorch(
    size: int, stride: int, kernel: int | tuple[int, int], less: int
) -> None:
    kernels = (kernel, kernel) if isinstance(kernel, int) else kernel
    torch.manual_seed(0)
    rows, columns = (max(0, length // 2 - less) for length in kernels)
    images = torch.randn(4, 6, max(size, kernels[0] - 2 * rows), max(size + 1, kernels[1] - 2 * columns))
    layer = nn.Conv2d(6, 6, kernels, stride, (rows, columns), groups=6, bias=stride == 2)
    _compare(layer, images.double().contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("size", [1, 2, 7, 20])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_pointwise_gradients_are_those_of_pytorch(
    size: int, channels: int, bias: bool, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, channels, size, size, dtype=torch.float64)
    out = _compare(nn.Conv2d(channels, 8, 1, bias=bias), images.contiguous(memory_format=memory_format))
    if channels > 1:  # or else it has both layouts
        assert out.is_contiguous(memory_format=memory_format)


def _compare(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """That outputs and gradients of a layer are the same when it is sped up; the outputs."""
    plain = nn.Sequential(layer).double()
    fast = speed_up_convolutions(copy.deepcopy(plain))
    assert "_conv_forward" in vars(fast[0])
    assert type(fast[0]) is type(layer)  # for whoever looks for convolutions
    copied = copy.deepcopy(fast)  # as an average of the weights does
    assert "_conv_forward" in vars(copied[0])
    assert fast.state_dict().keys() == plain.state_dict().keys()
    found = []
    for model in (plain, fast):
        seen = images.clone().requires_grad_()
        out = model(seen)
        out.square().sum().backward()
        found.append([out, seen.grad, *(parameter.grad for parameter in model.parameters())])
    for expected, given in zip(*found, strict=True):
        torch.testing.assert_close(given, expected)
    return out.detach()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 6, 5, padding=2),
        nn.Conv2d(6, 6, 1, stride=2),
        nn.Conv2d(6, 6, 1, groups=2),
        nn.Conv2d(6, 6, 1, padding=1),
        nn.Conv2d(6, 12, 5, padding=2, groups=6),
        nn.Conv2d(6, 6, 5, padding=4, groups=6, dilation=2),
        nn.Conv2d(6, 6, 5, padding=2, groups=6, padding_mode="reflect"),
        nn.Conv2d(6, 6, 5, padding="same", groups=6),
    ],
)
def test_other_convolutions_stay(layer: nn.Conv2d) -> None:
    model = nn.Sequential(layer)
    assert "_conv_forward" not in vars(speed_up_convolutions(model)[0])


def test_what_pads_by_itself_is_sped_up_too() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 6, 4, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    same = Conv2dSame(6, 6, 5, 2, groups=6)
    same.initialise()
    _compare(same, images)


def test_frozen_parts_get_no_gradient() -> None:
    model = speed_up_convolutions(nn.Sequential(nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False)))
    model[0].weight.requires_grad_(False)
    images = torch.randn(2, 6, 4, 4, requires_grad=True)
    model(images).sum().backward()
    assert images.grad is not None
    assert model[0].weight.grad is None


def test_networks_are_freed_at_once() -> None:
    layer = speed_up_convolutions(nn.Conv2d(6, 6, 5, padding=2, groups=6))
    freed = weakref.ref(layer)
    del layer
    assert freed() is None
