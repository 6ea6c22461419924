"""One session of a search: from a run folder and its request to the result."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.samplers import BaseSampler

from evaluators import Evaluator
from latency.runtimes import same_here
from nas.cheap_scores import with_cheap_scores
from nas.executors import Executor, make_executor
from nas.finalists import (
    MEASURED,
    Contest,
    FinalFidelity,
    FinalsLog,
    Jury,
    Outcome,
    Timer,
    Trainer,
    doubts,
    why_not_here,
)
from nas.known import Known
from nas.loop import SearchLoop
from nas.objective import objectives
from nas.pareto import Hypervolume, write_front
from nas.pruning import Pruning, make_pruning
from nas.record import TrialLog
from nas.recorded import networks_csv, with_origin
from nas.result import BestNetwork, NothingFound, SearchResult
from nas.run_folder import RunFolder
from nas.scored import Scored
from nas.settings import Settings
from nas.state import State
from nas.target import REWARD
from search_space import Architecture, SearchSpace
from search_space.space import Genotype
from searchers import Objective, Problem, SpaceSampler, distributions, make_sampler

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """A search request with everything in it resolved."""

    settings: Settings
    space: SearchSpace
    evaluator: Evaluator
    known: Known
    start: tuple[Genotype, ...] = ()
    final: FinalFidelity | None = None

    def problem(self) -> Problem:
        """The request as searchers see it."""
        target, constraints = self.settings.parsed_target(), self.settings.parsed_constraints()
        before = [constraint for constraint in constraints if constraint.metric in self.known.names]

        def violation(architecture: Architecture) -> float:
            if not before:
                return 0.0
            metrics = self.known.metrics(architecture)
            return sum(max(0.0, constraint.excess(metrics)) for constraint in before)

        wanted = objectives(self.settings.objective, self.evaluator.directions)
        return Problem(
            self.space,
            wanted if target is None else (Objective(REWARD, "maximize"),),
            self.known.metrics,
            violation,
            tuple(str(constraint) for constraint in constraints if constraint not in before),
            self.evaluator.noisy,
            self.start,
        )

    def pruning(self, sampler: BaseSampler) -> Pruning | None:
        """How trainings are stopped early, if they are. Raises `InputError` where that makes no sense."""
        target = self.settings.parsed_target()
        return make_pruning(
            self.settings.pruner,
            self.problem(),
            self.evaluator,
            self.settings.objective if target is None else target.objective,
            crosses_limits=isinstance(sampler, SpaceSampler) and sampler.crosses_limits,
        )


class Session:
    """Goes on with what the folder has recorded, which may be nothing; `plain` is what `run.yaml` says.

    Raises `InputError` where it turns out, as with a cluster that does not answer, that nothing can be evaluated.
    """

    def __init__(
        self,
        folder: RunFolder,
        request: Request,
        plain: Mapping[str, Any],
        on_change: Callable[[State], None],
        on_score: OnProgress,
    ) -> None:
        self._started, self._earlier_s = time.monotonic(), folder.earlier_wall_time_s()
        self._folder, self._request, self._on_change = folder, request, on_change
        self._plain = plain
        settings = request.settings
        problem, passes = with_cheap_scores(
            request.problem(), settings, request.evaluator, folder.scores_file, on_score
        )
        self._problem = problem
        self._constraints = request.settings.parsed_constraints()
        self._table = request.known.predictor.table if request.known.predictor is not None else None
        self._not_timed = ""
        final = request.final
        self._finals = FinalsLog(folder.finalists_file, () if final is None else tuple(final.evaluator.directions))
        self._written: tuple[str, int] | None = None
        sampler = make_sampler(settings.searcher, problem, settings.seed)
        directions = [objective.direction for objective in problem.objectives]
        log = TrialLog(folder.journal, directions, distributions(request.space))
        self._recorded = log.read(request.known.names)
        pruning = request.pruning(sampler)
        request.evaluator.rungs = pruning.rungs if pruning is not None else ()
        self._executor = make_executor(
            settings.executor, request.evaluator, settings.executor_options(), folder.worker_log
        )
        self._loop = SearchLoop(
            problem,
            sampler,
            self._executor,
            log,
            budget=settings.budget,
            seed=settings.seed,
            constraints=self._constraints,
            target=settings.parsed_target(),
            pruning=pruning,
            passes=passes,
            recorded=self._recorded,
            window=settings.window,
            on_change=self._changed,
        )

    def run(self, time_limit_s: float, on_measure: OnProgress, on_train: OnProgress) -> SearchResult:
        """Search until the end, judge the finalists, write the results."""
        deadline = self._started + time_limit_s
        try:
            self._warn_of_the_table()
            stopped_by = self._loop.run(deadline=deadline)
            self._executor.close()  # before anything is timed
            outcome = self._judge_finalists(deadline, on_measure, on_train)
        except KeyboardInterrupt:
            if self._caught_up:
                self._write_best(self._loop.state)
                self._write_networks()
                self._folder.write_summary(self._result("interrupted").to_dict())
            raise
        finally:
            self._executor.close()
        late = outcome is not None and outcome.out_of_time
        ended = self._result("time limit" if late else stopped_by, outcome)
        self._write_networks()
        self._folder.write_summary(ended.to_dict())
        self._folder.write_best(ended.best.architecture if ended.best is not None else None)
        if ended.counts["complete"] + ended.counts["failed"] == 0 and stopped_by == "exhausted":
            raise self._nothing_feasible()
        return ended

    # What is written while the search goes on.

    @property
    def _caught_up(self) -> bool:
        """Whether all that was recorded is in; what was written of it earlier stays until then."""
        return self._loop.state.done >= len(self._recorded)

    def _changed(self, state: State) -> None:
        if self._caught_up:
            self._write_best(state)
        self._on_change(state)

    def _write_best(self, state: State) -> None:
        """Keep `best.yaml` what it says; the best may change by a second look at it, or be none any more."""
        best = state.best
        now = None if best is None else (best.architecture.arch_id, best.looks)
        if now != self._written:
            self._written = now
            self._folder.write_best(None if best is None else self._named(best, best.metrics))

    def _named(self, best: Scored, metrics: Mapping[str, float]) -> Architecture:
        """A network as it is written: named after its space, with where it comes from."""
        conditions = None if self._table is None else self._table.conditions
        return with_origin(
            best.architecture,
            run=self._folder.path,
            trial=best.number,
            space=self._request.space.name,
            recorded=self._plain,
            final_seeds=self._request.settings.final_seeds,
            looks=best.looks,
            metrics=metrics,
            latency_conditions=conditions,
            measured_conditions=None if conditions is None or MEASURED not in metrics else same_here(conditions),
        )

    def _write_networks(self) -> None:
        """All networks in one table, and the front, if there is one, in files of its own."""
        scored = self._loop.scored()
        self._folder.write_networks(networks_csv(self._loop.ranked(), scored, self._constraints))
        if len(self._problem.objectives) > 1 and scored:
            front, wanted = self._loop.state.front, self._problem.objectives
            volume = Hypervolume(self._loop.ranking, wanted, scored)
            write_front(self._folder.path, front, scored, wanted, volume, lambda one: self._named(one, one.metrics))

    # Finalists.

    def _warn_of_the_table(self) -> None:
        table = self._table
        if table is None:
            return
        for doubt in doubts(table):
            warnings.warn(f"about the latency table {table.name}: {doubt}", stacklevel=2)
        self._not_timed = why_not_here(table) if self._request.settings.finalists else ""
        if self._not_timed:
            warnings.warn(f"finalists will not be timed: {self._not_timed}", stacklevel=2)

    def _judge_finalists(self, deadline: float, on_measure: OnProgress, on_train: OnProgress) -> Outcome | None:
        settings, final, table = self._request.settings, self._request.final, self._table
        timer = Timer(table, self._finals, on_measure) if table is not None and not self._not_timed else None
        trainer = None
        if final is not None:
            trainer = Trainer(
                lambda most: self._final_executor(final, most),
                tuple(final.evaluator.directions),
                self._finals,
                run_seed=settings.seed,
                seeds=settings.final_seeds,
                deadline=deadline,
                on_train=on_train,
            )
        if not settings.finalists or (timer is None and trainer is None):
            return None
        several = len(self._problem.objectives) > 1
        jury = Jury(self._problem.objectives, self._constraints, settings.parsed_target())
        contest = Contest(jury, settings.finalists, timer, trainer)
        outcome = contest.hold_front(self._loop.state.front) if several else contest.hold(self._loop.ranked())
        self._not_timed = self._not_timed or outcome.not_timed
        return outcome

    def _final_executor(self, final: FinalFidelity, most: int) -> Executor:
        settings = self._request.settings
        options = settings.executor_options()
        # The limit was meant for the search's evaluations.
        timeout_s = options.trial_timeout_s * final.costs
        options = replace(options, workers=min(options.workers, most), trial_timeout_s=timeout_s)
        return make_executor(settings.executor, final.evaluator, options, self._folder.worker_log)

    # Results.

    def _result(self, stopped_by: str, outcome: Outcome | None = None) -> SearchResult:
        state, found = self._loop.state, None
        if outcome is not None and outcome.finalists:
            winner = outcome.winner
            if winner is not None:
                metrics = {**winner.metrics(), **winner.tested()}
                found = BestNetwork(self._named(winner.best, metrics), metrics, winner.best.looks)
        elif state.best is not None:
            found = BestNetwork(self._named(state.best, state.best.metrics), dict(state.best.metrics), state.best.looks)
        front: tuple[BestNetwork, ...] = ()
        hypervolume, reference = None, {}
        scored = self._loop.scored()
        if len(self._problem.objectives) > 1 and scored:
            front = tuple(BestNetwork(one.architecture, dict(one.metrics), one.looks) for one in state.front)
            volume = Hypervolume(self._loop.ranking, self._problem.objectives, scored)
            hypervolume, reference = volume.final, volume.reference
        names = ("complete", "again", "failed", "pruned", "infeasible", "duplicate", "filtered")
        return SearchResult(
            run=self._folder.path,
            best=found,
            counts={name: state.counts[name] for name in names},
            stopped_by=stopped_by,
            wall_time_s=self._earlier_s + time.monotonic() - self._started,
            training_time_s=state.training_seconds + self._finals.seconds,
            full_training_equivalents=state.spent,
            finalists=() if outcome is None else outcome.finalists,
            finalists_not_timed=self._not_timed,
            finalists_not_trained="" if outcome is None else outcome.not_trained,
            final_proxy="" if self._request.final is None else self._request.final.name,
            front=front,
            hypervolume=hypervolume,
            reference_point=reference,
        )

    def _nothing_feasible(self) -> NothingFound:
        space, known = self._request.space, self._request.known
        wishes = [constraint for constraint in self._constraints if constraint.metric in known.names]
        rule = f"no network of {space.name} was found that satisfies {' and '.join(map(str, wishes))}"
        ranges = []
        for metric in dict.fromkeys(constraint.metric for constraint in wishes):
            least, greatest = known.reach(space, metric)
            ranges.append(f"{metric} from {least:.4g} to {greatest:.4g}")
        return NothingFound(rule, where="--constraint", remedy=f"the space reaches {' and '.join(ranges)}")
