"""Finalists: the best candidates timed end to end on the device, before one is called the winner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latency import LatencyTable, Times, make_runtime
from latency.measure import OnProgress, Whole, measure
from latency.runtimes import same_here
from latency.table import MAPE_OF_DOUBT_PERCENT
from nas.constraints import LATENCY, Constraint, violated
from nas.scored import Scored
from nas.target import REWARD, Target
from search_space import Architecture, InputError

MEASURED = "measured_latency_ms"
"""The 10th percentile of a finalist's times, the statistic that tables are calibrated to."""
_PASSES = 4
_ROUNDS = 5


@dataclass(frozen=True)
class Finalist:
    """A candidate with its measured latency."""

    best: Scored
    times: Times
    broken: tuple[Constraint, ...]
    """Constraints that do not hold with the measured latency."""
    reward: float | None
    """The reward with the measured latency, if there is a target."""

    @property
    def measured_ms(self) -> float:
        """`MEASURED`."""
        assert self.times.p10_ms is not None
        return self.times.p10_ms

    def metrics(self) -> dict[str, float]:
        """What was known, with what was measured beside it."""
        metrics = {**self.best.metrics, MEASURED: self.measured_ms}
        return metrics if self.reward is None else {**metrics, f"measured_{REWARD}": self.reward}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `summary.json`."""
        return {
            "arch_id": self.best.architecture.arch_id,
            "trial": self.best.number,
            "metrics": self.metrics(),
            "measured": self.times.to_dict(),
            "broken": [str(constraint) for constraint in self.broken],
        }


def doubts(table: LatencyTable) -> list[str]:
    """What a user of the table on this machine should know: other conditions, a poor fit."""
    found = []
    try:
        found += table.conditions.differences(same_here(table.conditions))
    except InputError:
        found.append(f"it is of {table.conditions}, which cannot be had here")
    error = table.calibration.mape_percent
    if error is not None and error > MAPE_OF_DOUBT_PERCENT:
        found.append(f"it errs by {error:.1f} % on the networks it was calibrated on")
    return found


def why_not_here(table: LatencyTable) -> str:
    """Why networks cannot be timed here as the table's were, naming both devices; empty if they can."""
    wanted = table.conditions
    try:
        here = same_here(wanted)
    except InputError as error:
        return f"the latency table is of {wanted}, which cannot be had here: {error}"
    if here.device_name != wanted.device_name:
        return f"the latency table is of {wanted.device_name}, this is {here.device_name}"
    return ""


def retime(
    ranked: Sequence[Scored],
    count: int,
    table: LatencyTable,
    constraints: Sequence[Constraint],
    target: Target | None,
    on_progress: OnProgress = lambda done, total: None,
) -> list[Finalist]:
    """Time the first `count` of `ranked`, interleaved; if all of them break a constraint, the next `count`, and so on.

    The winner, the first of the list returned, is the first in rank (with a target: in measured reward) that breaks
    none; if there is no such one, every finalist has `broken`.
    """
    timed: list[Finalist] = []
    for start in range(0, len(ranked), count):
        timed += _time(ranked[start : start + count], table, constraints, target, on_progress)
        if any(not finalist.broken for finalist in timed):
            break
    # Stable: without a target the order is that of the ranking.
    return sorted(timed, key=lambda one: (bool(one.broken), 0.0 if one.reward is None else -one.reward))


def _time(
    candidates: Sequence[Scored],
    table: LatencyTable,
    constraints: Sequence[Constraint],
    target: Target | None,
    on_progress: OnProgress,
) -> list[Finalist]:
    samples = _samples([best.architecture for best in candidates], table, on_progress)
    finalists = [_judge(best, taken, constraints, target) for best, taken in zip(candidates, samples, strict=True)]
    # One session may have been a slow one: who breaks a constraint is timed once more, and all samples count.
    again = [index for index, finalist in enumerate(finalists) if finalist.broken]
    if again:
        more = _samples([candidates[index].architecture for index in again], table, on_progress)
        for index, taken in zip(again, more, strict=True):
            finalists[index] = _judge(candidates[index], [*samples[index], *taken], constraints, target)
    return finalists


def _judge(
    best: Scored, samples_ms: Sequence[float], constraints: Sequence[Constraint], target: Target | None
) -> Finalist:
    timed = Finalist(best, Times.of(samples_ms), (), None)
    metrics = {**best.metrics, LATENCY: timed.measured_ms}
    reward = None
    if target is not None:
        # The recorded reward is that of the predicted latency.
        reward = metrics[REWARD] / target.reward(1.0, best.cost) * target.reward(1.0, metrics)
    return replace(timed, broken=tuple(violated(constraints, metrics)), reward=reward)


def latency_bias_percent(finalists: Sequence[Finalist]) -> float:
    """The median of how much too slow they were predicted; below 0 means too fast."""
    return 100 * float(np.median([one.best.cost[LATENCY] / one.measured_ms - 1 for one in finalists]))


def _samples(networks: Sequence[Architecture], table: LatencyTable, on_progress: OnProgress) -> list[list[float]]:
    runtime = make_runtime(table.conditions)
    jobs = [Whole(network) for network in networks]
    samples = measure(runtime, jobs, passes=_PASSES, rounds=_ROUNDS, on_progress=on_progress)
    return [taken.tolist() for taken in samples]
