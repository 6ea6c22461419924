"""How far to trust a table: its predictions against fresh networks, beside the error of measuring them again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.measure import Alone, Job, OnProgress, Whole, measure
from latency.predict import Predictor
from latency.runtimes import make_runtime, same_here
from latency.table import LatencyTable, fitted_to_the_others
from search_space import Architecture, InputError, SearchSpace, count_cost
from search_space.parts import parts
from search_space.rules import Integer
from search_space.space_file import at_resolutions

_PASSES = 4
_ROUNDS = 3
_ALONE_ROUNDS = 10
_ANCHORS = 12
_STEPS = 60
_LEAST_NETWORKS = 2
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How well one thing predicts measured latencies."""

    mape: float
    """Mean absolute error, in percent of the measured latency."""
    bias: float
    """Mean signed error, in percent; above 0 means predicted too slow."""
    within_5: float
    """Share of networks (0 to 1) predicted to ±5 %."""
    within_10: float
    kendall_tau: float

    @classmethod
    def of(cls, predicted: Times, measured: Times) -> Agreement:
        """Compare, network by network."""
        from scipy.stats import kendalltau  # here, because loading it takes a while

        error = (predicted - measured) / measured
        constant = np.ptp(predicted) == 0 or np.ptp(measured) == 0
        return cls(
            mape=100 * float(np.abs(error).mean()),
            bias=100 * float(error.mean()),
            within_5=float((np.abs(error) <= 0.05).mean()),
            within_10=float((np.abs(error) <= 0.10).mean()),
            kendall_tau=0.0 if constant else float(kendalltau(predicted, measured).statistic),
        )


@dataclass(frozen=True)
class CheckedNetwork:
    """One of the networks of a check."""

    architecture: Architecture
    predicted_ms: float
    """As the table says."""
    predicted_now_ms: float
    """At the machine's present speed: times `CheckResult.machine_slowdown`."""
    measured_ms: float
    measured_again_ms: float
    """By the same procedure, later in the session."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of `check_table`."""

    table: Agreement
    """Of the predictions, brought to the machine's present speed."""
    table_as_is: Agreement
    """Of the predictions as they are."""
    table_fitted: Agreement
    """Of the predictions through an affine fit to the other networks of this check."""
    remeasured: Agreement
    """Of measuring again: the floor."""
    macs: Agreement
    """Of multiply–adds, through an affine fit likewise."""
    alone: Agreement
    """Of blocks timed alone, warm and repeated, through an affine fit likewise."""
    machine_slowdown: float
    """How long the table's own calibration networks take now, relative to when it was built."""
    networks: tuple[CheckedNetwork, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data of `nas latency check --json`."""
        return {
            **asdict(self.table),
            "remeasure_mape": self.remeasured.mape,
            "networks": len(self.networks),
            "machine_slowdown": self.machine_slowdown,
            "as_is": asdict(self.table_as_is),
            "fitted": asdict(self.table_fitted),
            "remeasured": asdict(self.remeasured),
            "macs": asdict(self.macs),
            "blocks_alone": asdict(self.alone),
            "measured": [
                {
                    "arch_id": network.architecture.arch_id,
                    "predicted_ms": network.predicted_ms,
                    "predicted_now_ms": network.predicted_now_ms,
                    "measured_ms": network.measured_ms,
                    "measured_again_ms": network.measured_again_ms,
                }
                for network in self.networks
            ],
        }


def check_table(
    predictor: Predictor,
    space: SearchSpace,
    *,
    networks: int = 30,
    seed: int = 0,
    on_progress: OnProgress = lambda done, total: None,
) -> CheckResult:
    """Measure `networks` networks of the space that had no part in building the table, and compare.

    The machine's speed is another today than when the table was built. So some of the table's own calibration networks
    are measured among the fresh ones, and predictions are multiplied by how much longer those take now; the figures
    without that are given, too. Raises `InputError` for a table whose conditions cannot be had here.
    """
    table = predictor.table
    Integer(0, 2**63 - 1).check("--seed", seed)
    if networks < _LEAST_NETWORKS:
        raise InputError(f"--networks must be at least {_LEAST_NETWORKS}", networks, remedy="measure more")
    warn_of_differences(table)
    fresh = _fresh(table, space, networks, seed)
    predicted = np.array([predictor.latency_ms(architecture) for architecture in fresh])
    anchors = table.calibration.networks[:_ANCHORS]
    wholes: list[Job] = [Whole(network) for network in (*fresh, *(anchor.architecture for anchor in anchors))]
    shapes = list(dict.fromkeys(shape for architecture in fresh for shape in parts(architecture)))
    first, alone_ms, again = _measure(table, wholes, [Alone(shape) for shape in shapes], on_progress)
    measured, now = first[:networks], first[networks:]
    slowdown = float(np.median(now / [anchor.times.p10_ms for anchor in anchors])) if anchors else 1.0
    part_ms = dict(zip(shapes, alone_ms, strict=True))
    macs = np.array([count_cost(architecture).macs for architecture in fresh], dtype=float)
    alone = np.array([sum(part_ms[shape] for shape in parts(architecture)) for architecture in fresh])
    return CheckResult(
        Agreement.of(predicted * slowdown, measured),
        Agreement.of(predicted, measured),
        Agreement.of(fitted_to_the_others(predicted, measured), measured),
        Agreement.of(again[:networks], measured),
        Agreement.of(fitted_to_the_others(macs, measured), measured),
        Agreement.of(fitted_to_the_others(alone, measured), measured),
        slowdown,
        tuple(map(CheckedNetwork, fresh, predicted, predicted * slowdown, measured, again)),
    )


def warn_of_differences(table: LatencyTable) -> None:
    """Warn if the table's conditions are not those here, naming both.

    Raises `InputError` if its runtime, device or precision cannot be had here at all.
    """
    differences = table.conditions.differences(same_here(table.conditions))
    if differences:
        what = "; ".join(differences)
        warnings.warn(f"the table {table.name} was not measured under the conditions here: {what}", stacklevel=2)


def _fresh(table: LatencyTable, space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Distinct networks of the space, at the resolutions and numbers of classes that the table has."""
    known = {network.architecture.arch_id for network in table.calibration.networks}
    sizes, classes = table.resolutions, table.num_classes
    common = [size for size in sizes if size in space.resolutions]
    if sizes:
        space = at_resolutions(space, common or sizes)
    own = space.all_constants()["num_classes"]
    rng = np.random.default_rng([seed, 1])
    found: dict[str, Architecture] = {}
    for _ in range(200 * count):
        architecture = space.decode(space.sample(rng))
        if classes and own not in classes:
            architecture = architecture.replace(num_classes=int(rng.choice(classes)))
        if architecture.arch_id not in known:
            found.setdefault(architecture.arch_id, architecture)
        if len(found) == count:
            return list(found.values())
    rule = f"the space has only {len(found)} networks on which the table was not calibrated"
    few = len(found) < _LEAST_NETWORKS
    remedy = "it is too small to be checked" if few else f"use --networks {len(found)}"
    raise InputError(rule, where=space.name, remedy=remedy)


def _measure(
    table: LatencyTable, wholes: Sequence[Job], alone: Sequence[Job], on_progress: OnProgress
) -> tuple[Times, Times, Times]:
    """The 10th percentiles of the wholes, of the parts alone, and of the wholes once more."""
    runtime = make_runtime(table.conditions)

    def session(number: int, jobs: Sequence[Job], passes: int, rounds: int) -> Times:
        def on_chunk(done: int, total: int) -> None:
            on_progress(round(_STEPS * (number + done / total) / 3), _STEPS)

        samples = measure(runtime, jobs, passes=passes, rounds=rounds, seed=number, on_progress=on_chunk)
        return np.array([np.percentile(taken, 10) for taken in samples])

    first = session(0, wholes, _PASSES, _ROUNDS)
    return first, session(1, alone, 1, _ALONE_ROUNDS), session(2, wholes, _PASSES, _ROUNDS)
