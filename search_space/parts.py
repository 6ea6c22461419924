"""A network as the row of its parts: stem, blocks, head, each with its input shape.

Cost is counted and latency measured by part; both depend on nothing but a `PartShape`.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from search_space.architecture import Architecture
from search_space.feature_map_part import FeatureMapPart
from search_space.head import Head
from search_space.layers import BuildContext

Part = FeatureMapPart | Head


class PartShape(NamedTuple):
    """A part with its input: it reads [N, in_channels, size, size]; `size` is in pixels.

    `out_channels` are the channels of the feature map after it; for a head, the classes.
    """

    part: Part
    in_channels: int
    size: int
    out_channels: int

    def at_inference(self) -> PartShape:
        """The same without what only training knows; latency depends on nothing else."""
        return self._replace(part=self.part.at_inference())

    def build(self, context: BuildContext | None = None) -> nn.Module:
        """The part's module, its parameters uninitialised by us."""
        context = context or BuildContext()
        if isinstance(self.part, Head):
            return self.part.build(self.in_channels, self.out_channels, context)
        return self.part.build(self.in_channels, context)


def parts(architecture: Architecture) -> list[PartShape]:
    """Stem, blocks and head with their input shapes, in order."""
    size, channels = architecture.resolution, architecture.input_channels
    row = []
    for part in (architecture.stem, *architecture.blocks):
        row.append(PartShape(part, channels, size, part.out_channels))
        size, channels = part.out_size(size), part.out_channels
    row.append(PartShape(architecture.head, channels, size, architecture.num_classes))
    return row
