"""How small and how large the networks of a space can be."""

from __future__ import annotations

import operator

from search_space.cost import part_cost
from search_space.graph import Combine
from search_space.space import SearchSpace

_COMBINE: dict[str, Combine] = {"memory_mb": max}


def cost_range(space: SearchSpace, metric: str) -> tuple[float, float]:
    """The least and the greatest `params`, `macs`, `activations` or `memory_mb` in a space, exactly."""
    return space.graph().reach(lambda shape: part_cost(shape).metrics()[metric], _COMBINE.get(metric, operator.add))
