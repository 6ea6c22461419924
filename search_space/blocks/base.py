"""What every block type owes. One file in this folder per block type; nothing else in the tree names one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from search_space.feature_map_part import FeatureMapPart
from search_space.foreign import NotExpressible, TimmBlock


@dataclass(frozen=True, kw_only=True)
class Block(FeatureMapPart):
    """One residual unit of a network: [N, in, H, W] → [N, out_channels, out_size(H), out_size(W)].

    A block type is a frozen dataclass in a file of this folder, decorated with `@register("its_name")`. It declares its
    fields with their rules and builds its module; cost, latency, files, search and export work from these two alone.
    Fields that have no effect beside others are named by `unused_fields`.

    Scaling goes by the rules of fields, too: `Width` for channels of any sort, `Depth` for layers inside the block,
    `DropRate`; and by `repeats` and `width_multiple`.

    Its modules take any batch, and keep the batch first in all that passes between them. They say how they begin by a
    method `initialise`, and all about themselves in `repr` (PyTorch's `extra_repr`): those of equal `repr` cost the
    same.
    """

    kind: ClassVar[str] = "block"
    repeats: ClassVar[bool] = True
    """Whether a deeper stage has more of it. Not those that only lead from one shape to the next."""

    def does_nothing(self, in_channels: int) -> bool:
        """Whether its output is its input, always. Then it is no part of the network: architectures leave it out.

        It has no stride then, and as many `out_channels` as `in_channels`.
        """
        return False

    def timm_block(self, in_channels: int) -> TimmBlock:
        """The block as timm's EfficientNet builder writes it. Raises `NotExpressible`, naming the field."""
        raise NotExpressible("timm's EfficientNet builder", "type", self.type)

    def torchvision_config(self, family: str, in_channels: int, num_layers: int) -> str:
        """Python source of the config that stands for the block, `num_layers` times, in torchvision's `family`.

        `family` is `EfficientNet` or `MobileNetV3` (whose configs are for one block each). Raises `NotExpressible`.
        """
        raise NotExpressible(f"torchvision's {family}", "type", self.type)
