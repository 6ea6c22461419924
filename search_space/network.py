"""From an architecture to a PyTorch module, with initial weights."""

from __future__ import annotations

import math

from torch import Tensor, nn

from search_space.architecture import Architecture
from search_space.layers import BuildContext


class Network(nn.Module):
    """stem → blocks → head: [N, input_channels, H, W] → [N, num_classes] logits.

    H and W may differ from the architecture's resolution, as long as they are at least its total stride.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        norm = {"norm_eps": architecture.norm_eps, "norm_momentum": architecture.norm_momentum}
        context = BuildContext(**norm)
        blocks = list(architecture.blocks)
        channels = architecture.stem.out_channels
        self.stem = architecture.stem.build(architecture.input_channels, context)
        self.blocks = nn.Sequential()
        for index, block in enumerate(blocks):
            rate = architecture.drop_path_rate * index / len(blocks)
            self.blocks.append(block.build(channels, BuildContext(**norm, drop_path=rate)))
            channels = block.out_channels
        self.head = architecture.head.build(channels, architecture.num_classes, context)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


def build_model(architecture: Architecture) -> Network:
    """The network of an architecture, freshly initialised from PyTorch's global generator.

    Works under `torch.device(...)`, `.to(memory_format=torch.channels_last)` and `torch.export`.
    """
    network = Network(architecture)
    initialise(network)
    return network


def initialise(module: nn.Module) -> None:
    """Initial weights after the papers' code.

    Convolutions: normal, variance 2 / fan-out counted per group (He et al. 2015; the EfficientNet and MnasNet code).
    Linear layers: normal, standard deviation 0.01 (MobileNetV2/V3). Norms: weight 1. Biases: 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
