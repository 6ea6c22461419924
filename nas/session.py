"""One session of a search: from a run folder and its request to the result."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence

from evaluators import ProxyTraining
from latency.measure import MeasuringFailed
from latency.runtimes import same_here
from latency.table import MAPE_OF_DOUBT_PERCENT
from nas.constraints import Constraint
from nas.executors import ExecutorOptions, make_executor
from nas.finalists import MEASURED, Finalist, doubts, latency_bias_percent, retime, why_not_here
from nas.known import Known
from nas.loop import Best, SearchLoop, State
from nas.record import TrialLog
from nas.result import BestNetwork, NothingFound, SearchResult
from nas.run_folder import RunFolder
from nas.settings import Settings
from nas.target import REWARD
from search_space import Architecture, SearchSpace
from searchers import distributions, make_sampler


def run(
    folder: RunFolder,
    settings: Settings,
    space: SearchSpace,
    evaluator: ProxyTraining,
    known: Known,
    time_limit_s: float,
    on_change: Callable[[State], None],
    on_measure: Callable[[int, int], None],
) -> SearchResult:
    """Search until the end, going on with what the folder has recorded; time the finalists; write the results."""
    started, earlier = time.monotonic(), folder.earlier_wall_time_s()
    target, constraints = settings.parsed_target(), settings.parsed_constraints()
    direction = evaluator.directions[settings.objective]
    score = settings.objective if target is None else REWARD
    log = TrialLog(folder.journal, direction, score, distributions(space))
    recorded = log.read(known.names)
    table = known.predictor.table if known.predictor is not None else None
    not_timed = why_not_here(table) if table is not None and settings.finalists else ""
    for doubt in doubts(table) if table is not None else []:
        warnings.warn(f"about the latency table {table.name if table else ''}: {doubt}", stacklevel=2)
    if not_timed:
        warnings.warn(f"finalists will not be timed: {not_timed}", stacklevel=2)
    executor = make_executor(settings.executor, evaluator, ExecutorOptions(settings.workers), folder.worker_log)
    written: Best | None = None

    def named(best: Best, metrics: Mapping[str, float]) -> Architecture:
        """A winner as it is written: named after its space, with where it comes from."""
        provenance = {
            "arch_id": best.architecture.arch_id,
            "run": str(folder.path),
            "trial": best.number,
            "space": space.name,
            "data": evaluator.data.name,
            "proxy_resolution_px": evaluator.recipe.resolution_px,
            "metrics": dict(metrics),
        }
        if table is not None:
            provenance["latency_conditions"] = table.conditions.to_dict()
            if MEASURED in metrics:
                provenance["measured_conditions"] = same_here(table.conditions).to_dict()
        return best.architecture.replace(name=f"{space.name}-{best.architecture.arch_id}", provenance=provenance)

    def changed(state: State) -> None:
        nonlocal written
        if state.best is not written and state.best is not None and state.done >= len(recorded):
            written = state.best
            folder.write_best(named(written, written.metrics()))
        on_change(state)

    loop = SearchLoop(
        space,
        make_sampler(settings.searcher, space, settings.seed),
        executor,
        log,
        budget=settings.budget,
        seed=settings.seed,
        objective=settings.objective,
        direction=direction,
        constraints=constraints,
        known=known,
        target=target,
        recorded=recorded,
        window=1 if settings.workers == 1 else 2 * settings.workers,
        on_change=changed,
    )

    def result(stopped_by: str, finalists: Sequence[Finalist] = ()) -> SearchResult:
        found, best = None, loop.state.best
        if finalists:
            if not finalists[0].broken:
                best, metrics = finalists[0].best, finalists[0].metrics()
                found = BestNetwork(named(best, metrics), metrics)
        elif best is not None:
            found = BestNetwork(named(best, best.metrics()), best.metrics())
        counts = {name: loop.state.counts[name] for name in ("complete", "failed", "pruned", "infeasible", "duplicate")}
        seconds = earlier + time.monotonic() - started
        return SearchResult(
            folder.path, found, counts, stopped_by, seconds, loop.state.training_seconds, tuple(finalists), not_timed
        )

    try:
        stopped_by = loop.run(deadline=started + time_limit_s)
        executor.close()  # before anything is timed
        finalists: list[Finalist] = []
        if settings.finalists and table is not None and not not_timed:
            try:
                finalists = retime(loop.ranked(), settings.finalists, table, constraints, target, on_measure)
            except MeasuringFailed as error:  # after all that training, what was found is kept
                not_timed = str(error)
                warnings.warn(f"finalists could not be timed, the winner is not verified: {error}", stacklevel=2)
            bias = latency_bias_percent(finalists) if finalists else 0.0
            if abs(bias) > MAPE_OF_DOUBT_PERCENT:
                how = f"{abs(bias):.0f} % too {'slow' if bias > 0 else 'fast'}"
                warnings.warn(f"the latency table predicts the finalists {how}; try `nas latency check`", stacklevel=2)
    except KeyboardInterrupt:
        folder.write_summary(result("interrupted").to_dict())
        raise
    finally:
        executor.close()
    ended = result(stopped_by, finalists)
    folder.write_summary(ended.to_dict())
    if finalists:
        folder.write_best(ended.best.architecture if ended.best is not None else None)
    if ended.counts["complete"] + ended.counts["failed"] == 0 and stopped_by == "exhausted":
        raise _nothing_feasible(space, constraints, known, ended.counts["infeasible"])
    return ended


def _nothing_feasible(
    space: SearchSpace, constraints: Sequence[Constraint], known: Known, proposals: int
) -> NothingFound:
    rule = f"no network of {space.name} among {proposals:,} proposals satisfies {' and '.join(map(str, constraints))}"
    ranges = []
    for metric in dict.fromkeys(constraint.metric for constraint in constraints):
        least, greatest = known.reach(space, metric)
        ranges.append(f"{metric} from {least:.4g} to {greatest:.4g}")
    return NothingFound(rule, where="--constraint", remedy=f"the space reaches {' and '.join(ranges)}")
