"""Scores of untrained networks, from a few batches of images. Of all of them, more is meant to be better.

Each takes a network [N, C, H, W] -> [N, classes] that was just initialised, and batches of images [N, C, H, W] with
labels [N] on the same device, and returns one number, which may be infinite or NaN where the network allows no score.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from search_space.layers import ACTIVATION_TYPES

NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
Batch = tuple[Tensor, Tensor]
Score = Callable[[nn.Module, Sequence[Batch]], float]


def grad_norm(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Sum over weight tensors of the Euclidean norm of the loss's gradient (Abdelfattah et al. 2021)."""
    return float(sum(gradient.norm().item() for gradient in _gradients(model, batches[0])))


def snip(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Sum over weights of |gradient · weight|: what the loss would lose with each of them (Lee et al. 2019)."""
    gradients = _gradients(model, batches[0])
    return sum(
        (gradient * weight).abs().sum().item() for gradient, weight in zip(gradients, _weights(model), strict=True)
    )


def synflow(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Natural logarithm of the sum over weights of |∂R/∂w · w| (Tanaka et al. 2020).

    R = 1ᵀ(Π|W|)1: the sum of the outputs for an image of ones, with weights replaced by their magnitudes. No labels or
    images are looked at but for their size. Activations pass on what they get, as ReLU does with what is positive: R is
    of the linear network, and a ReLU6 would cut the flow off. So do norms, as in Abdelfattah et al. 2021; attention
    is the mean of its values. In double precision and as a logarithm, because the product over layers overflows
    otherwise, and on the CPU, because not every device has double precision.
    """
    linear = copy.deepcopy(model).cpu().double().eval()
    for module in linear.modules():
        if isinstance(module, (*NORM_TYPES, *ACTIVATION_TYPES)):
            module.forward = _unchanged
    with torch.no_grad():
        for weight in linear.parameters():
            weight.abs_()
    ones = torch.ones(1, *batches[0][0].shape[1:], dtype=torch.float64)
    weights = _weights(linear)
    with _MeanAttention():
        out = linear(ones)
    gradients = torch.autograd.grad(out.sum(), weights, allow_unused=True)  # queries and keys may be
    found = [(gradient, weight) for gradient, weight in zip(gradients, weights, strict=True) if gradient is not None]
    total = sum((gradient * weight).sum().item() for gradient, weight in found)
    return math.log(total) if total > 0 else -math.inf


def naswot(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Log-determinant of the agreement of activation patterns between images (Mellor et al. 2021).

    A pattern says which units are on, that is, have a positive input. The paper has ReLUs alone; here, units of smooth
    activations (SiLU, h-swish, GELU) are on and off, too, or else a network would be the worse for having them.
    Agreements are summed over all activation layers, gates left out; without any, there is no score.
    """
    images = batches[0][0]
    agreement = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        on = (inputs[0].flatten(1) > 0).float()
        agreement.add_((on @ on.T + (1 - on) @ (1 - on).T).cpu().double())

    handles = [m.register_forward_pre_hook(count) for m in model.modules() if isinstance(m, ACTIVATION_TYPES)]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    sign, value = torch.linalg.slogdet(agreement)
    return float(value) if sign > 0 else -math.inf


def zico(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Sum over layers of log Σ mean|g| / std|g| over batches, g the gradient of a weight (Li et al. 2023, eq. 15).

    Of the magnitudes |g|, as the paper defines it. Weights whose |g| does not vary are left out, and so are layers that
    have no others; if all layers are, there is no score. Needs two batches or more; the paper takes two.
    """
    several = [_gradients(model, batch) for batch in batches]
    layers = []
    for gradients in zip(*several, strict=True):
        sizes = torch.stack(gradients).cpu().double().abs()  # not every device has double precision
        spread = sizes.std(0, unbiased=False)
        varies = spread > 0
        layer = (sizes.mean(0)[varies] / spread[varies]).sum().item()
        if layer > 0:
            layers.append(math.log(layer))
    return sum(layers) if layers else -math.inf


def _weights(model: nn.Module) -> list[Tensor]:
    """Kernels and matrices of convolutions and linear layers, without biases."""
    return [module.weight for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def _gradients(model: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    """Of the cross-entropy, by each of the weights."""
    images, labels = batch
    return torch.autograd.grad(F.cross_entropy(model(images), labels), _weights(model))


def _unchanged(x: Tensor) -> Tensor:
    return x


class _MeanAttention(TorchFunctionMode):
    """Attention as the mean of the values, which is linear: scores of such sums as synflow's overflow."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return value.mean(-2, keepdim=True).expand(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))
