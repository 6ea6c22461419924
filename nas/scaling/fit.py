"""Fitting the coefficients of compound scaling: a search of the base's scaled forms at phi 1."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency import Predictor
from nas import api
from nas.api import OnChange, OnProgress
from nas.constraints import LATENCY
from nas.known import Known
from nas.latency_tables import find_table
from nas.result import SearchResult
from nas.run_folder import RunFolder
from nas.scaling.api import resolve_base
from nas.scaling.fits import read_fit
from search_space import Architecture, InputError
from search_space.rules import Number
from search_space.scaling import CompoundRule
from search_space.scaling_space import ScalingSpace, scaling_space

COSTS = ("macs", LATENCY)
GRID: Mapping[str, float | Sequence[float]] = {
    "alpha": [round(1 + 0.1 * step, 2) for step in range(9)],
    "beta": [round(1 + 0.05 * step, 2) for step in range(8)],
    "gamma": [round(1 + 0.05 * step, 2) for step in range(9)],
}
"""The coefficients that are tried. Depths are rounded up, so that finer steps of alpha give no other networks."""
TOLERANCE = Number(0.001, 0.5)


@dataclass(frozen=True)
class FitResult:
    """What a fit found."""

    search: SearchResult
    rule: CompoundRule | None
    """None if every trial failed."""
    cost: str
    ratio_asked: float
    ratio_reached: float | None
    """Cost of the network at phi 1, the base's being 1."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `nas scale --fit --json`."""
        found = {} if self.rule is None else {name: getattr(self.rule, name) for name in GRID}
        return {
            **self.search.to_dict(),
            **found,
            "cost": self.cost,
            "ratio_asked": self.ratio_asked,
            "ratio_reached": self.ratio_reached,
        }


def fit_scaling(
    arch: str | os.PathLike[str] | Architecture | None = None,
    *,
    cost: str = "macs",
    tolerance: float = 0.05,
    grid: Mapping[str, float | Sequence[float]] = GRID,
    budget: int | None = None,
    out: str | os.PathLike[str] | None = None,
    latency: str = "",
    interpolate: bool = False,
    on_change: OnChange = lambda state: None,
    on_measure: OnProgress = lambda done, total: None,
    **settings: Any,
) -> FitResult:
    """Find alpha, beta and gamma, each at least 1, with which the cost at phi 1 is twice the base's.

    The paper's grid search (Tan & Le 2019, section 3.3, step 1), but the cost is counted (`macs`) or looked up
    (`latency_ms`) instead of taken from alpha · beta² · gamma², and met within `tolerance`. Candidates are scored by
    the evaluator and recorded as a search's trials; `settings` are those of `nas.search`, `budget` None stands for all
    of the grid. The run folder is the result: `nas.scale` reads it. Raises `InputError`.
    """
    if cost not in COSTS:
        raise InputError("--cost must be macs or latency_ms", cost, remedy="use macs")
    if cost == LATENCY and not latency:
        raise InputError("--cost latency_ms needs a latency table", remedy="add --latency FILE, or --latency auto")
    tolerance = TOLERANCE.check("--tolerance", tolerance)
    if out is not None:
        RunFolder(Path(out)).refuse_if_used("--run")
    base, _ = resolve_base(arch)
    space = scaling_space(base, {**grid, "phi": 1})
    base_cost = _cost_of(base, cost, space, latency, interpolate, on_measure)
    goal = space.ratio * base_cost
    result = api.search(
        space,
        space.num_genotypes if budget is None else budget,
        out=out,
        constraints=[f"{cost}>={goal * (1 - tolerance):.9g}", f"{cost}<={goal * (1 + tolerance):.9g}"],
        on_change=on_change,
        on_measure=on_measure,
        latency=latency,
        interpolate=interpolate,
        **{"searcher": "grid", "finalists": 0, **settings},
    )
    if result.best is None:
        return FitResult(result, None, cost, space.ratio, None)
    rule = read_fit(result.run).rule
    return FitResult(result, rule, cost, space.ratio, result.best.metrics[cost] / base_cost)


def _cost_of(
    base: Architecture, cost: str, space: ScalingSpace, latency: str, interpolate: bool, on_measure: OnProgress
) -> float:
    predictor = None
    if cost == LATENCY:
        table, _ = find_table(latency, space, on_build=on_measure)
        predictor = Predictor(table, interpolate=interpolate)
    return Known(predictor).metrics(base)[cost]
