"""A network that takes no time to build."""

from __future__ import annotations

import dataclasses
from typing import Any

from search_space import Architecture, Block, Stage, load_architecture
from search_space.component import from_dict


def block(**fields: Any) -> Block:
    made = from_dict("block", fields)
    assert isinstance(made, Block)
    return made


def tiny(**changes: Any) -> Architecture:
    """A network that takes no time to build: a fused block, an MBConv with a shortcut and squeeze-excite."""
    base = load_architecture("efficientnet-b0")
    first = block(type="fused_mbconv", out_channels=16, stride=2, expand_ratio=2)
    later = block(type="mbconv", out_channels=16, expand_ratio=2, se_ratio=0.25, activation="silu")
    head = dataclasses.replace(base.head, conv_channels=32)  # type: ignore[call-arg]
    stages = (Stage((first, later)),)
    return base.replace(
        **{"name": "tiny", "resolution": 32, "num_classes": 7, "stages": stages, "head": head, **changes}
    )
