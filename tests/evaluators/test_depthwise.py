from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from evaluators.depthwise import speed_up_depthwise


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [5, 7, 9])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_pytorch(size: int, stride: int, kernel: int, bias: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=bias)).double()
    fast = speed_up_depthwise(copy.deepcopy(plain))
    assert type(fast[0]) is not nn.Conv2d
    assert isinstance(fast[0], nn.Conv2d)  # for whoever looks for convolutions
    assert fast.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(4, 6, size, size, dtype=torch.float64)
    images = images.contiguous(memory_format=torch.channels_last)
    found = []
    for model in (plain, fast):
        seen = images.clone().requires_grad_()
        out = model(seen)
        out.square().sum().backward()
        found.append([out, seen.grad, *(parameter.grad for parameter in model.parameters())])
    for expected, given in zip(*found, strict=True):
        torch.testing.assert_close(given, expected)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 6, 5, padding=2),
        nn.Conv2d(6, 12, 5, padding=2, groups=6),
        nn.Conv2d(6, 6, 5, padding=4, groups=6, dilation=2),
        nn.Conv2d(6, 6, 5, padding=2, groups=6, padding_mode="reflect"),
        nn.Conv2d(6, 6, (5, 3), padding=(2, 1), groups=6),
        nn.Conv2d(6, 6, 5, padding="same", groups=6),
    ],
)
def test_other_convolutions_stay(layer: nn.Conv2d) -> None:
    model = nn.Sequential(layer)
    assert type(speed_up_depthwise(model)[0]) is nn.Conv2d


def test_frozen_parts_get_no_gradient() -> None:
    model = speed_up_depthwise(nn.Sequential(nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False)))
    model[0].weight.requires_grad_(False)
    images = torch.randn(2, 6, 4, 4, requires_grad=True)
    model(images).sum().backward()
    assert images.grad is not None
    assert model[0].weight.grad is None
