"""What a bench found: one curve for each searcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nas.benchmark.truth import REGRET
from nas.csv_text import csv_text

Array = NDArray[np.float64]
CHECKPOINTS = (25, 50, 100, 200, 300)
"""After so many evaluations curves are tabulated, and at the budget."""


@dataclass(frozen=True, eq=False)
class Curve:
    """How a searcher did, from evaluation to evaluation."""

    searcher: str
    seeds: tuple[int, ...]
    """Of its runs."""
    values: Array
    """[seeds, budget]: regret in percentage points, NaN while there is no pick, or the hypervolume ratio, 0 to 1."""
    ms_per_trial: float
    """Milliseconds of processor time that the search took for each trial, without its evaluation; mean over seeds."""
    ended_at: int | None
    """If a run had nothing left to propose: after so many evaluations the first such did. Its last pick stays."""

    @property
    def mean(self) -> Array:
        """[budget]: over seeds; NaN where a run has no pick yet."""
        return np.asarray(self.values.mean(axis=0))

    @property
    def standard_error(self) -> Array:
        """[budget]: of the mean; NaN if there is a single seed."""
        count = len(self.seeds)
        if count == 1:
            return np.full(self.values.shape[1], np.nan)
        return np.asarray(self.values.std(axis=0, ddof=1) / np.sqrt(count))

    @property
    def interval(self) -> tuple[Array, Array]:
        """([budget], [budget]): the mean's 95 % confidence interval, by Student's t; of no width for a single seed."""
        wide = np.zeros(1) if len(self.seeds) == 1 else stats.t.ppf(0.975, len(self.seeds) - 1) * self.standard_error
        return self.mean - wide, self.mean + wide


@dataclass(frozen=True, eq=False)
class BenchResult:
    """What a bench was asked, and the curves, the best at the budget first."""

    table: str
    metric: str
    """`regret` or `hypervolume_ratio`."""
    objectives: tuple[str, ...]
    constraints: tuple[str, ...]
    """With percentiles as numbers."""
    allowed: int
    """How many networks of the table satisfy them."""
    budget: int
    """Evaluations of each run."""
    seeds: tuple[int, ...]
    noise: bool
    """Whether an evaluation is the accuracy with one random training seed, or the mean over seeds."""
    workers: int
    curves: tuple[Curve, ...]

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """After how many evaluations curves are tabulated."""
        return (*(count for count in CHECKPOINTS if count < self.budget), self.budget)

    def best_first(self, curves: list[Curve]) -> tuple[Curve, ...]:
        """Curves in order of what they end at; those that end without a pick last."""
        sign = 1 if self.metric == REGRET else -1
        return tuple(sorted(curves, key=lambda curve: float(np.nan_to_num(sign * curve.mean[-1], nan=np.inf))))

    def to_dict(self) -> dict[str, Any]:
        """Plain data of `nas bench --json`; null for what does not exist."""
        return {
            "table": self.table,
            "objectives": list(self.objectives),
            "constraints": list(self.constraints),
            "allowed_networks": self.allowed,
            "budget": self.budget,
            "seeds": len(self.seeds),
            "first_seed": self.seeds[0],
            "noise": self.noise,
            "workers": self.workers,
            "searchers": {curve.searcher: self._plain(curve) for curve in self.curves},
        }

    def _plain(self, curve: Curve) -> dict[str, Any]:
        mean, error = curve.mean, curve.standard_error
        return {
            self.metric: {
                str(count): {"mean": _or_none(mean[count - 1]), "standard_error": _or_none(error[count - 1])}
                for count in self.checkpoints
            },
            "ms_per_trial": curve.ms_per_trial,
            "seeds": len(curve.seeds),
            "ended_at": curve.ended_at,
        }

    def to_csv(self) -> str:
        """`searcher,evaluations,regret,standard_error`, at every evaluation; empty for what does not exist."""
        rows = [
            (curve.searcher, evaluations, _or_none(mean), _or_none(error))
            for curve in self.curves
            for evaluations, (mean, error) in enumerate(
                zip(curve.mean.tolist(), curve.standard_error.tolist(), strict=True), start=1
            )
        ]
        return csv_text(["searcher", "evaluations", self.metric, "standard_error"], rows)


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
