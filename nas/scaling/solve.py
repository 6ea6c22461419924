"""Which phi gives a network of a wanted size."""

from __future__ import annotations

from collections.abc import Callable

from nas.target import Target
from search_space import InputError


def solve(cost_at: Callable[[float], float], target: Target, sought: tuple[int, int, float]) -> float:
    """The greatest phi at which the cost is at most the goal; `sought` is as a rule says.

    Cost never falls as phi rises, but for the noise of latencies. It is asked for at whole phi from 0 outwards, then
    between two of them. Raises `InputError` if the goal lies beyond what is reached.
    """
    lowest, highest, step = sought
    whole = round(1 / step)
    below, above = 0, 0
    if cost_at(0) <= target.goal:
        while above == below:
            if below >= highest * whole:
                raise _beyond(target, "largest", highest, cost_at(highest))
            if cost_at((below + whole) * step) <= target.goal:
                below = above = below + whole
            else:
                above = below + whole
    else:
        while below == above:
            if above <= lowest * whole:
                raise _beyond(target, "smallest", lowest, cost_at(lowest))
            if cost_at((above - whole) * step) > target.goal:
                below = above = above - whole
            else:
                below = above - whole
    while above - below > 1:
        middle = (below + above) // 2
        if cost_at(round(middle * step, 6)) <= target.goal:
            below = middle
        else:
            above = middle
    return round(below * step, 6)


def _beyond(target: Target, what: str, phi: int, cost: float) -> InputError:
    remedy = f"the {what} network, at phi {phi}, has {target.metric} {cost:.4g}"
    return InputError(f"no phi gives {target}", where="--target", remedy=remedy)
