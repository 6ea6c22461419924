"""Copying weights from timm's networks into ours, and making both show what they compute."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randomise(model: nn.Module, pixels: int) -> None:
    """Random affine parameters, and running statistics as of random images, so that the signal reaches the end."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
        elif isinstance(module, nn.Conv2d):
            module.weight.data *= 0.2
    with torch.no_grad():
        model.train()(torch.randn(4, 3, pixels, pixels))
    model.eval()


def copy_in_order(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy parameters and buffers in order. Names differ; several of theirs may be one of ours, by output channels."""
    values = list(theirs.state_dict().values())
    copied: dict[str, Tensor] = {}
    for name, target in ours.state_dict().items():
        value = values.pop(0)
        while value.dim() and len(value) < len(target):
            value = torch.cat([value, values.pop(0)])
        copied[name] = value.reshape(target.shape) if value.numel() == target.numel() else value
    assert not values
    ours.load_state_dict(copied)
