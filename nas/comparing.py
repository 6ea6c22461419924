"""Networks side by side: counted cost, predicted and measured latency, score under one recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluators import EvaluationFailed, ProxyTraining
from latency import Conditions, MissingSignature, Predictor, Times, make_runtime
from latency.measure import Job, OnProgress, Whole, measure
from nas.importing import Network, OpaqueNetwork
from search_space import Architecture, count_cost
from search_space.cost import Cost

SAME_LATENCY = 1.05
"""Latencies count as equal up to this ratio: so much do two measurements of one network differ."""
_PASSES = 4
_ROUNDS = 5


@dataclass(frozen=True)
class Compared:
    """One network with what is known of it; None and empty where it was not asked for, or cannot be known."""

    network: Network
    cost: Cost
    latency_ms: float | None = None
    """Predicted from a table."""
    measured: Times | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of proxy training: `accuracy` and `loss` on the validation images."""
    notes: tuple[str, ...] = ()
    """Why something is missing."""

    @property
    def measured_ms(self) -> float | None:
        """The 10th percentile of the measured times."""
        return self.measured.p10_ms if self.measured is not None else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        is_architecture = isinstance(self.network, Architecture)
        return {
            "name": self.network.name,
            "arch_id": self.network.arch_id if isinstance(self.network, Architecture) else None,
            "kind": "architecture" if is_architecture else "baseline",
            "resolution": self.network.resolution,
            **self.cost.metrics(),
            "macs_lack": sorted(self.cost.unseen),
            "latency_ms": self.latency_ms,
            "measured_latency_ms": self.measured_ms,
            "measured": self.measured.to_dict() if self.measured is not None else None,
            **dict(self.scores),
            "notes": list(self.notes),
        }


def compare(
    networks: Sequence[Network],
    *,
    predictor: Predictor | None = None,
    conditions: Conditions | None = None,
    evaluator: ProxyTraining | None = None,
    seed: int = 0,
    on_measure: OnProgress = lambda done, total: None,
    on_train: OnProgress = lambda done, total: None,
) -> list[Compared]:
    """Count all; predict with `predictor`, measure under `conditions`, interleaved, and train by `evaluator` if given.

    What cannot be done for one network is in its notes. Raises `InputError` for a network that cannot be counted, and
    `WorkFailed` if measuring fails.
    """
    costs = [cost_of(network) for network in networks]
    times = time_networks(networks, conditions, on_measure) if conditions is not None else [None] * len(networks)
    compared = []
    for index, (network, cost, measured) in enumerate(zip(networks, costs, times, strict=True)):
        latency_ms, notes = _predict(network, predictor)
        scores: Mapping[str, float] = {}
        if evaluator is not None:
            on_train(index, len(networks))
            try:
                scores = _train(network, evaluator, seed)
            except EvaluationFailed as error:
                notes.append(f"not trained: {error}")
        compared.append(Compared(network, cost, latency_ms, measured, scores, tuple(notes)))
    if evaluator is not None:
        on_train(len(networks), len(networks))
    return compared


def cost_of(network: Network) -> Cost:
    """Counted cost at the network's own resolution."""
    return network.cost() if isinstance(network, OpaqueNetwork) else count_cost(network)


def time_networks(
    networks: Sequence[Network], conditions: Conditions, on_progress: OnProgress = lambda done, total: None
) -> list[Times]:
    """Times of whole networks, end to end, measured in one interleaved session."""
    jobs: list[Job] = [one.job() if isinstance(one, OpaqueNetwork) else Whole(one) for one in networks]
    taken = measure(make_runtime(conditions), jobs, passes=_PASSES, rounds=_ROUNDS, on_progress=on_progress)
    return [Times.of(samples) for samples in taken]


def better(compared: Sequence[Compared]) -> dict[int, list[int]]:
    """Index of a network -> those that are better at no more latency; only where scores and latencies are known.

    Better is a lower validation loss, by which proxies rank best; latency is the measured one where all were measured.
    """
    measured = [one.measured_ms for one in compared]
    latencies = measured if None not in measured else [one.latency_ms for one in compared]
    known = [
        (i, one.scores["loss"], ms)
        for i, one, ms in zip(range(len(compared)), compared, latencies, strict=True)
        if one.scores and ms
    ]
    return {
        i: found
        for i, loss, ms in known
        if (found := [j for j, other, its in known if other < loss and its <= SAME_LATENCY * ms])
    }


def _predict(network: Network, predictor: Predictor | None) -> tuple[float | None, list[str]]:
    if predictor is None:
        return None, []
    if isinstance(network, OpaqueNetwork):
        return None, ["no predicted latency: a baseline has no parts; --measure times it"]
    try:
        return predictor.latency_ms(network), []
    except MissingSignature as error:
        return None, [f"no predicted latency: {error.rule}"]


def _train(network: Network, evaluator: ProxyTraining, seed: int) -> dict[str, float]:
    if isinstance(network, OpaqueNetwork):
        reports = evaluator.evaluate_module(network.make, network.name, seed=seed)
    else:
        reports = evaluator.evaluate(network, seed=seed)
    for report in reports:
        last = report
    return {name: last.metrics[name] for name in evaluator.directions}
