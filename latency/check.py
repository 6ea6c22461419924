"""How far to trust a table: its predictions against fresh networks, beside the error of measuring them again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.measure import Alone, Job, Samples, Whole, measure_chunk, plan
from latency.predict import Predictor
from latency.runtimes import make_runtime, same_here
from latency.table import LatencyTable, affine
from search_space import Architecture, InputError, SearchSpace, count_cost
from search_space.parts import PartShape, parts

_PASSES = 4
"""The first half of them is one measurement, the second half is measuring again."""
_ROUNDS = 4
_ALONE_ROUNDS = 10
_ANCHORS = 12
_LEAST_NETWORKS = 5
Times = NDArray[np.float64]
OnProgress = Callable[[int, int], None]


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
    """As the table says, times `CheckResult.machine_slowdown`."""
    measured_ms: float
    first_ms: float
    again_ms: float
    """Measured in the first and in the second half of the session."""


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
                    "measured_ms": network.measured_ms,
                    "first_ms": network.first_ms,
                    "again_ms": network.again_ms,
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
    if networks < _LEAST_NETWORKS:
        raise InputError(f"--networks must be at least {_LEAST_NETWORKS}", networks, remedy="measure more")
    warn_of_differences(table)
    fresh = _fresh(table, space, networks, seed)
    predicted = np.array([predictor.latency_ms(architecture) for architecture in fresh])
    anchors = table.calibration.networks[:_ANCHORS]
    shapes = list(dict.fromkeys(shape for architecture in fresh for shape in parts(architecture)))
    first, again = _measure(table, [*fresh, *(anchor.architecture for anchor in anchors)], shapes, on_progress)
    measured = _p10(first, again)
    now, then = measured[networks : networks + len(anchors)], [anchor.times.p10_ms for anchor in anchors]
    slowdown = float(np.median(now / np.array(then))) if anchors else 1.0
    whole, part_ms = measured[:networks], dict(zip(shapes, measured[networks + len(anchors) :], strict=True))
    first_ms, again_ms = _p10(first[:networks]), _p10(again[:networks])
    macs = np.array([count_cost(architecture).macs for architecture in fresh], dtype=float)
    alone = np.array([sum(part_ms[shape] for shape in parts(architecture)) for architecture in fresh])
    return CheckResult(
        Agreement.of(predicted * slowdown, whole),
        Agreement.of(predicted, whole),
        Agreement.of(_fitted_to_the_others(predicted, whole), whole),
        Agreement.of(again_ms, first_ms),
        Agreement.of(_fitted_to_the_others(macs, whole), whole),
        Agreement.of(_fitted_to_the_others(alone, whole), whole),
        slowdown,
        tuple(map(CheckedNetwork, fresh, predicted * slowdown, whole, first_ms, again_ms)),
    )


def warn_of_differences(table: LatencyTable) -> bool:
    """Warn if the table's conditions are not those here, naming both; whether there is any difference.

    Raises `InputError` if its runtime, device or precision cannot be had here at all.
    """
    differences = table.conditions.differences(same_here(table.conditions))
    if differences:
        what = "; ".join(differences)
        warnings.warn(f"the table {table.name} was not measured under the conditions here: {what}", stacklevel=2)
    return bool(differences)


def _fresh(table: LatencyTable, space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Distinct networks of the space, at the resolutions and numbers of classes that the table has."""
    known = {network.architecture.arch_id for network in table.calibration.networks}
    sizes = {shape.size for shape in table.times if shape.part.kind == "stem"}
    classes = sorted({shape.out_channels for shape in table.times if shape.part.kind == "head"})
    own = space.all_constants()["num_classes"]
    rng = np.random.default_rng([seed, 1])
    found: dict[str, Architecture] = {}
    for _ in range(200 * count):
        architecture = space.decode(space.sample(rng))
        if sizes and architecture.resolution not in sizes:
            continue
        if classes and own not in classes:
            architecture = architecture.replace(num_classes=int(rng.choice(classes)))
        if architecture.arch_id not in known:
            found.setdefault(architecture.arch_id, architecture)
        if len(found) == count:
            return list(found.values())
    rule = f"the space has only {len(found)} networks that the table covers and was not calibrated on"
    raise InputError(rule, where=space.name, remedy="ask for fewer --networks, or build the table for this space")


def _measure(
    table: LatencyTable, networks: Sequence[Architecture], shapes: Sequence[PartShape], on_progress: OnProgress
) -> tuple[list[Samples], list[Samples]]:
    """Samples of all networks, then of all shapes alone, from the first and from the second half of the session."""
    runtime = make_runtime(table.conditions)
    wholes: list[Job] = [Whole(architecture) for architecture in networks]
    rng = np.random.default_rng(0)
    chunks = plan(len(wholes), passes=_PASSES, rounds=_ROUNDS, rng=rng)
    alone: list[Job] = [Alone(shape) for shape in shapes]
    alone_chunks = plan(len(alone), passes=1, rounds=_ALONE_ROUNDS, rng=rng)
    total = len(chunks) + len(alone_chunks)
    halves: tuple[list[list[Samples]], ...] = ([[] for _ in wholes], [[] for _ in wholes])
    for done, chunk in enumerate(chunks):
        on_progress(done, total)
        for index, samples in measure_chunk(runtime, wholes, chunk).items():
            halves[2 * done // len(chunks)][index].append(samples)
    alone_samples: list[Samples] = [np.empty(0)] * len(alone)
    for done, chunk in enumerate(alone_chunks, len(chunks)):
        on_progress(done, total)
        for index, samples in measure_chunk(runtime, alone, chunk).items():
            alone_samples[index] = samples
    on_progress(total, total)
    first, again = ([np.concatenate(passes) for passes in half] for half in halves)
    return first + alone_samples, again + alone_samples


def _p10(*halves: Sequence[Samples]) -> Times:
    return np.array([np.percentile(np.concatenate(taken), 10) for taken in zip(*halves, strict=True)])


def _fitted_to_the_others(x: Times, y: Times) -> Times:
    """y as an affine function of x predicts it, each left out of the fit that predicts it."""
    predicted = np.empty_like(y)
    for index in range(len(y)):
        others = np.arange(len(y)) != index
        a, b = affine(x[others], y[others])
        predicted[index] = a * x[index] + b
    return predicted
