"""Networks side by side: counted cost, predicted and measured latency, score under one recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluators import EvaluationFailed, ProxyTraining
from latency import Conditions, MissingSignature, Predictor, Times, make_runtime
from latency.measure import Job, OnProgress, Whole, measure
from nas.importing import Network, OpaqueNetwork
from search_space import Architecture, count_cost
from search_space.cost import Cost

ShowSteps = Callable[[str], contextlib.AbstractContextManager[OnProgress]]
SAME_LATENCY = 1.05
"""Latencies count as equal up to this ratio: so much do two measurements of one network differ."""
_PASSES = 4
_ROUNDS = 5


@contextlib.contextmanager
def _silent(title: str) -> Iterator[OnProgress]:
    yield lambda done, total: None


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
    show_steps: ShowSteps = _silent,
) -> list[Compared]:
    """Count all; predict with `predictor`, measure under `conditions`, interleaved, and train by `evaluator` if given.

    `show_steps` opens a display of progress with a title. What cannot be done for one network is in its notes. Raises
    `InputError` for a network that cannot be counted, and `WorkFailed` if measuring fails.
    """
    costs = [cost_of(network) for network in networks]
    predicted = [_predict(network, predictor) for network in networks]
    times: list[Times | None] = [None] * len(networks)
    if conditions is not None:
        with show_steps("timing") as on_progress:
            times = [*time_networks(networks, conditions, on_progress)]
    trained: list[tuple[dict[str, float], list[str]]] = [({}, []) for _ in networks]
    if evaluator is not None:
        with show_steps("training") as on_progress:
            for index, network in enumerate(networks):
                on_progress(index, len(networks))
                trained[index] = _train(network, evaluator, seed)
            on_progress(len(networks), len(networks))
    return [
        Compared(network, cost, latency_ms, measured, scores, (*missing, *failed))
        for network, cost, (latency_ms, missing), measured, (scores, failed) in zip(
            networks, costs, predicted, times, trained, strict=True
        )
    ]


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

    Better is a lower validation loss, as networks that are no architectures have no score; latency is the measured one
    where all were measured.
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


def _train(network: Network, evaluator: ProxyTraining, seed: int) -> tuple[dict[str, float], list[str]]:
    if isinstance(network, OpaqueNetwork):
        reports = evaluator.evaluate_module(network.make, network.name, seed=seed)
    else:
        reports = evaluator.evaluate(network, seed=seed)
    try:
        *_, last = reports
    except EvaluationFailed as error:
        return {}, [f"not trained: {error}"]
    return {name: last.metrics[name] for name in evaluator.directions if name in last.metrics}, []
