"""Measuring what an audit lacks, as many networks at once as there are workers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from evaluators import Evaluator, ProxyTraining, Report, Several, ZeroCost
from evaluators.recipe import training_cost
from evaluators.several import reasons
from nas.auditing.measurements import AuditFolder, Measured
from nas.executors import Executor, Failed, Job, Progress
from search_space import Architecture

OnProgress = Callable[[float, int], None]
_TRIES = 3


def measure(
    folder: AuditFolder,
    chosen: Sequence[Architecture],
    evaluators: Mapping[str, Evaluator],
    make: Callable[[Evaluator, int], Executor],
    *,
    seed: int,
    deadline: float,
    on_progress: OnProgress,
) -> None:
    """Have all evaluators score all networks that they have not scored; none begins after `deadline`.

    What fails for a reason that may pass is tried again, after all others. `make` gives an executor for an evaluator
    and a number of networks. `on_progress` is told how many networks are done, parts of networks included, by what
    they cost.
    """
    bar = _Bar(evaluators, len(chosen), on_progress)
    for _ in range(_TRIES):
        missing = folder.missing(len(chosen), evaluators)
        bar.begin(missing)
        if not missing or time.monotonic() >= deadline:
            break
        wanted = set[str]().union(*missing.values())
        networks = {number: chosen[number] for number in missing}
        several = Several(
            {name: one for name, one in evaluators.items() if name in wanted},
            lacking={chosen[number].arch_id: names for number, names in missing.items()},
        )
        executor = make(several, len(missing))
        try:
            _run(folder, executor, several, networks, seed, deadline, bar)
        finally:
            executor.close()


class _Bar:
    """How many networks are done."""

    def __init__(self, evaluators: Mapping[str, Evaluator], count: int, on_progress: OnProgress) -> None:
        costs = {name: cost_of(one) for name, one in evaluators.items()}
        self._shares = {name: cost / sum(costs.values()) for name, cost in costs.items()}
        self._count, self._on_progress = count, on_progress
        self._left: dict[int, float] = {}

    def begin(self, missing: Mapping[int, Sequence[str]]) -> None:
        """These networks lack what these evaluators tell, and no others lack anything."""
        self._left = {number: sum(self._shares[name] for name in names) for number, names in missing.items()}
        self._show()

    def tell(self, number: int, arch_id: str, several: Several, step: int) -> None:
        """A step of a network's evaluation is done."""
        left, done, lacking = 0.0, step - 1, several.lacking(arch_id)
        for name, evaluator in several.evaluators.items():
            if name in lacking:
                left += self._shares[name] * max(0, evaluator.steps - done) / evaluator.steps
            done = max(0, done - evaluator.steps)
        self._left[number] = left
        self._show()

    def _show(self) -> None:
        self._on_progress(round(self._count - sum(self._left.values()), 3), self._count)


def cost_of(evaluator: Evaluator) -> float:
    """Of a network, up to a factor of its own: images shown, by their size."""
    if isinstance(evaluator, ProxyTraining):
        return training_cost(evaluator.recipe, evaluator.data)
    if isinstance(evaluator, ZeroCost):
        return evaluator.images_seen * evaluator.recipe.resolution_px**2
    return 0.0


def _run(
    folder: AuditFolder,
    executor: Executor,
    several: Several,
    networks: Mapping[int, Architecture],
    seed: int,
    deadline: float,
    bar: _Bar,
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
            times[number][report.step] = time.perf_counter()
            for name in _ended(several, report):
                folder.append(Measured(number, arch_id, name, *_scores(several, name, report, times[number])))
            bar.tell(number, arch_id, several, report.step)
        else:
            del times[number]
            if isinstance(event, Failed):
                said = reasons(event.reason)
                for name in several.evaluators:
                    if folder.lacks(number, name):
                        reason = said.get(name, event.reason)
                        folder.append(Measured(number, arch_id, name, reason=reason, again=event.again))
            bar.tell(number, arch_id, several, several.steps)


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
    before = several.scores[name].step - several.evaluators[name].steps
    begun = times[max(step for step in times if step <= before)]  # others may have been passed over
    metrics = {metric: value for metric, value in report.metrics.items() if metric.rpartition("/")[0] in scores}
    return metrics, {score: times[step] - begun for score, step in scores.items() if step in times}
