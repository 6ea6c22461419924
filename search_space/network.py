"""From an architecture to a PyTorch module, with initial weights."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from search_space.architecture import Architecture
from search_space.layers import BuildContext


@runtime_checkable
class _Initialised(Protocol):
    def initialise(self) -> None: ...


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
    """Initial weights: each layer that has a method `initialise` is told to, in order, and knows how.

    Layers without one (norms, PyTorch's own) keep what they were built with.
    """
    for layer in module.modules():
        if isinstance(layer, _Initialised):
            layer.initialise()
