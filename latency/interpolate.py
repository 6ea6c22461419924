"""Filling a part shape in between measured neighbours.

Neighbours are the table's shapes of the same part type that agree in everything but numbers. Among them the logarithm
of the time is interpolated linearly in the logarithms of the fields and of the counted cost, by ridge regression on the
nearest ones. The stated error is that of the same procedure on measured neighbours, each left out in turn. What lies
outside the measured range of a number is not filled in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from latency.signature import to_plain
from latency.table import LatencyTable
from search_space.cost import part_cost
from search_space.parts import PartShape

_NEAREST = 24
_LEAST = 4
_RIDGE = 1e-2
Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Estimate:
    """A time that was not measured, uncalibrated."""

    ms: float
    error_percent: float


class Interpolation:
    """Interpolates in one table."""

    def __init__(self, table: LatencyTable) -> None:
        self._part_ms = table.part_ms
        self._groups: dict[Key, list[PartShape]] = {}
        for shape in self._part_ms:
            self._groups.setdefault(kind_of(shape), []).append(shape)

    def estimate(self, shape: PartShape) -> Estimate | None:
        """The time of `shape`, or None where it has no neighbours on both sides."""
        group = self._groups.get(kind_of(shape), [])
        numbers = np.array([numbers_of(other) for other in group])
        wanted = np.array(numbers_of(shape))
        if len(group) < _LEAST or (wanted < numbers.min(0)).any() or (wanted > numbers.max(0)).any():
            return None
        varies = numbers.min(0) < numbers.max(0)
        spread = numbers[:, varies].std(0)
        distance = np.abs((numbers[:, varies] - wanted[varies]) / spread).sum(1)
        nearest = [group[i] for i in np.argsort(distance, kind="stable")[:_NEAREST]]
        features = np.array([_features(other) for other in nearest])
        times = np.log([self._part_ms[other] for other in nearest])
        from sklearn.linear_model import RidgeCV  # here, because loading it takes half a second

        fit = RidgeCV(alphas=[_RIDGE], store_cv_results=True).fit(features, times)  # leaves each out in turn
        left_out_errors = np.expm1(np.sqrt(fit.cv_results_))
        estimate = math.exp(fit.predict(np.array([_features(shape)]))[0])
        return Estimate(estimate, 100 * float(left_out_errors.mean()))


def kind_of(shape: PartShape) -> Key:
    """What neighbours must have in common: what is not a number, the stride, and whether a number is 0 (left out)."""
    return tuple(
        (name, value if isinstance(value, str) or name == "stride" else value == 0)
        for name, value in sorted(to_plain(shape).items())
    )


def numbers_of(shape: PartShape) -> list[float]:
    """The logarithms of the fields that are numbers (those that are 0 are 0 in all neighbours)."""
    return [
        math.log(value) if value else 0.0 for _, value in sorted(to_plain(shape).items()) if not isinstance(value, str)
    ]


def _features(shape: PartShape) -> list[float]:
    cost = part_cost(shape)
    return [*numbers_of(shape), *(math.log1p(value) for value in (cost.macs, cost.activations, cost.params))]
