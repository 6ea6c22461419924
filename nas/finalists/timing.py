"""Finalists timed end to end on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from latency import LatencyTable, Times, make_runtime
from latency.measure import OnProgress, Whole, measure
from latency.runtimes import same_here
from latency.table import MAPE_OF_DOUBT_PERCENT
from nas.constraints import LATENCY
from nas.finalists.finalist import Finalist
from nas.finalists.log import FinalsLog
from nas.scored import Scored
from search_space import Architecture, InputError

_PASSES = 4
_ROUNDS = 5


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


class Timer:
    """Times networks under the conditions of a table, those that are not in the log yet."""

    def __init__(self, table: LatencyTable, log: FinalsLog, on_measure: OnProgress = lambda done, total: None) -> None:
        self._table = table
        self._log = log
        self._on_measure = on_measure

    def time(self, candidates: Sequence[Scored], breaks: Callable[[Scored, Times], bool]) -> list[Times]:
        """The times of each candidate, interleaved with one another. Raises `MeasuringFailed`.

        One session may have been a slow one: who `breaks` a limit is timed once more, and all samples count.
        """
        fresh = [one for one in candidates if one.architecture.arch_id not in self._log.samples_ms]
        taken = self._samples(fresh)
        slow = [one for one in fresh if breaks(one, Times.of(taken[one.architecture.arch_id]))]
        for arch_id, samples in self._samples(slow).items():
            taken[arch_id] += samples
        for arch_id, samples in taken.items():
            self._log.add_times(arch_id, samples)
        return [Times.of(self._log.samples_ms[one.architecture.arch_id]) for one in candidates]

    def _samples(self, candidates: Sequence[Scored]) -> dict[str, list[float]]:
        if not candidates:
            return {}
        networks = [one.architecture for one in candidates]
        samples = _samples(networks, self._table, self._on_measure)
        return {network.arch_id: taken for network, taken in zip(networks, samples, strict=True)}


def latency_bias_percent(finalists: Sequence[Finalist]) -> float:
    """The median of how much too slow they were predicted; below 0 means too fast. All of them have been timed."""
    return 100 * float(np.median([one.best.cost[LATENCY] / one.measured_ms - 1 for one in finalists]))


def _samples(networks: Sequence[Architecture], table: LatencyTable, on_progress: OnProgress) -> list[list[float]]:
    runtime = make_runtime(table.conditions)
    jobs = [Whole(network) for network in networks]
    samples = measure(runtime, jobs, passes=_PASSES, rounds=_ROUNDS, on_progress=on_progress)
    return [taken.tolist() for taken in samples]
