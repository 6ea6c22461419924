"""What is known of a network before it is trained: its counted cost and, with a latency table, its latency."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from latency import Predictor
from nas.constraints import COUNTED, KNOWN_BEFORE_TRAINING, LATENCY, Constraint
from nas.target import Target
from search_space import Architecture, InputError, SearchSpace, count_cost
from search_space.reach import cost_range

INTERPOLATED = "latency_interpolated_parts"
_PROBES = 64


class Known:
    """Measures architectures by name of metric; nothing here needs training."""

    def __init__(self, predictor: Predictor | None = None, *, interpolate: bool = False) -> None:
        self.predictor = predictor
        self._interpolate = interpolate
        # Searcher and loop ask for the same networks.
        self._remembered = functools.lru_cache(maxsize=10_000)(self._metrics)
        self.names: tuple[str, ...] = COUNTED
        if predictor is not None:
            self.names += (LATENCY, INTERPOLATED) if interpolate else (LATENCY,)

    def metrics(self, architecture: Architecture) -> dict[str, float]:
        """All of them, for one network."""
        return dict(self._remembered(architecture))

    def _metrics(self, architecture: Architecture) -> dict[str, float]:
        metrics = count_cost(architecture).metrics()
        if self.predictor is not None:
            metrics[LATENCY] = self.predictor.latency_ms(architecture)
            if self._interpolate:
                metrics[INTERPOLATED] = self.predictor.interpolated_parts(architecture)
        return metrics

    def reach(self, space: SearchSpace, metric: str) -> tuple[float, float]:
        """The least and the greatest in a space, exactly."""
        if metric == LATENCY and self.predictor is not None:
            return self.predictor.reach_ms(space)
        return cost_range(space, metric)

    def refuse_unreachable(
        self,
        space: SearchSpace,
        constraints: Sequence[Constraint],
        target: Target | None,
        objectives: Sequence[str] = (),
    ) -> None:
        """Raise `InputError` for a bound or goal that no network of the space meets, or that cannot be known."""
        if self.predictor is not None:
            self.predictor.reach_ms(space)  # raises where the table does not cover the space
        wishes = [*((c.metric, "--constraint") for c in constraints), *((name, "--objective") for name in objectives)]
        for metric, option in [*wishes, *_metric_of(target)]:
            if metric in KNOWN_BEFORE_TRAINING and metric not in self.names:
                rule = f"{metric} needs a latency table"
                raise InputError(rule, where=option, remedy="add --latency FILE, or --latency auto to build one")
        for constraint in constraints:
            if constraint.metric not in self.names:
                continue  # only training tells
            if constraint.metric in COUNTED and self._is_met_by_chance(space, constraint):
                continue  # counting the range takes seconds
            least, greatest = self.reach(space, constraint.metric)
            if not any(constraint.holds({constraint.metric: end}) for end in (least, greatest)):
                raise _unreachable(space, "--constraint", constraint, constraint.metric, (least, greatest))
        if target is not None:
            least, greatest = self.reach(space, target.metric)
            if not least <= target.goal <= greatest:
                raise _unreachable(space, "--target", target, target.metric, (least, greatest))

    def _is_met_by_chance(self, space: SearchSpace, constraint: Constraint) -> bool:
        rng = np.random.default_rng(0)
        return any(constraint.holds(self.metrics(space.decode(space.sample(rng)))) for _ in range(_PROBES))


def _metric_of(target: Target | None) -> list[tuple[str, str]]:
    return [] if target is None else [(target.metric, "--target")]


def _unreachable(
    space: SearchSpace, option: str, wish: Constraint | Target, metric: str, reach: tuple[float, float]
) -> InputError:
    remedy = f"the space reaches {metric} from {reach[0]:.4g} to {reach[1]:.4g}"
    return InputError(f"no network of {space.name} has {wish}", where=option, remedy=remedy)
