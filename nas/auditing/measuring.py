"""Measuring what an audit lacks, as many networks at once as there are workers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evaluators import Evaluator, ProxyTraining, Report, Several, ZeroCost
from evaluators.recipe import training_cost
from nas.auditing.measurements import AuditFolder, Measured
from nas.executors import Executor, Failed, Job, Progress
from search_space import Architecture


def measure(
    folder: AuditFolder,
    chosen: Sequence[Architecture],
    evaluators: Mapping[str, Evaluator],
    make: Callable[[Evaluator, int], Executor],
    *,
    seed: int,
    deadline: float,
    on_progress: Callable[[float, int], None],
) -> None:
    """Have all evaluators score all networks that they have not scored; none begins after `deadline`.

    `make` gives an executor for an evaluator and a number of networks. `on_progress` is told how many networks are
    done, parts of networks included, by what their training costs.
    """
    missing = folder.missing(len(chosen), evaluators)
    costs = {name: _cost(one) for name, one in evaluators.items()}
    done = [1.0] * len(chosen)
    for names, numbers in missing.items():
        for number in numbers:
            done[number] -= sum(costs[name] for name in names) / sum(costs.values())
    on_progress(_networks(done), len(chosen))
    for names, numbers in missing.items():
        several = Several({name: evaluators[name] for name in names})
        steps = [cost for name in names for cost in [costs[name] / evaluators[name].steps] * evaluators[name].steps]
        shares: list[float] = (np.cumsum([0.0, 0.0, *steps]) / sum(costs.values())).tolist()  # [1] is that of step 1
        before = done.copy()

        def tell(number: int, step: int, before: list[float] = before, shares: Sequence[float] = shares) -> None:
            done[number] = before[number] + shares[step]
            on_progress(_networks(done), len(chosen))

        if time.monotonic() < deadline:
            executor = make(several, len(numbers))
            try:
                _run(folder, executor, several, {number: chosen[number] for number in numbers}, seed, deadline, tell)
            finally:
                executor.close()


def _cost(evaluator: Evaluator) -> float:
    """Of a network, up to a factor of its own: images shown, by their size."""
    if isinstance(evaluator, ProxyTraining):
        return training_cost(evaluator.recipe, evaluator.data)
    if isinstance(evaluator, ZeroCost):
        return evaluator.images_seen * evaluator.recipe.resolution_px**2
    return 0.0


def _networks(done: Sequence[float]) -> float:
    return round(sum(done), 3)


def _run(
    folder: AuditFolder,
    executor: Executor,
    several: Several,
    networks: Mapping[int, Architecture],
    seed: int,
    deadline: float,
    tell: Callable[[int, int], None],
) -> None:
    waiting = deque(networks)
    times: dict[int, dict[int, float]] = {}  # of the networks under way, when each step was done
    while times or (waiting and time.monotonic() < deadline):
        while waiting and len(times) < executor.workers and time.monotonic() < deadline:
            number = waiting.popleft()
            executor.submit(Job(number, networks[number], seed))
            times[number] = {}
        event = executor.wait()
        number, arch_id = event.key, networks[event.key].arch_id
        if isinstance(event, Progress):
            report = event.report
            if report.step == 1:
                times[number].clear()  # another try begins again
            times[number][report.step] = time.perf_counter()
            for name in _ended(several, report):
                if folder.lacks(number, name):
                    folder.append(Measured(number, arch_id, name, *_scores(several, name, report, times[number])))
            tell(number, report.step)
        else:
            del times[number]
            if isinstance(event, Failed):
                for name in several.evaluators:
                    if folder.lacks(number, name):
                        folder.append(Measured(number, arch_id, name, reason=event.reason, again=event.again))
            tell(number, several.steps)


def _ended(several: Several, report: Report) -> list[str]:
    """The evaluator whose last step a report is of, if it has its scores."""
    return [name for name in several.evaluators if several.scores[name].step == report.step and _has(report, name)]


def _has(report: Report, score: str) -> bool:
    return any(metric.startswith(f"{score}/") for metric in report.metrics)


def _scores(
    several: Several, name: str, report: Report, times: Mapping[int, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """An evaluator's metrics, and for each of its scores the seconds since it began."""
    scores = {score: of.step for score, of in several.scores.items() if of.evaluator == name}
    begun = times[several.scores[name].step - several.evaluators[name].steps]
    metrics = {metric: value for metric, value in report.metrics.items() if metric.rpartition("/")[0] in scores}
    return metrics, {score: times[step] - begun for score, step in scores.items() if step in times}
