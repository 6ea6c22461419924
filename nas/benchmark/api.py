"""`nas.bench(...)`: checks the request, spreads the runs over the processors, and puts their outcomes together."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterable, Sequence

import joblib
import numpy as np

from evaluators import TabularEvaluator
from nas.benchmark.result import BenchResult, Curve
from nas.benchmark.runs import KNOWN, Run, request, run
from nas.benchmark.truth import Truth, absolute
from nas.objective import parse_names
from nas.settings import Settings
from search_space import InputError
from search_space.rules import Integer
from searchers import check_name, make_sampler

BASELINE = "random"
"""Always in the picture."""
_SLOWEST_FIRST = ("gp", "predictor", "tpe", "reinforce", "nsga2")


class BenchInterrupted(KeyboardInterrupt):
    """A bench was stopped from outside; `result` has the runs that had finished, None if none had."""

    def __init__(self, result: BenchResult | None) -> None:
        super().__init__()
        self.result = result


def bench(
    table: str | os.PathLike[str],
    searchers: Iterable[str],
    budget: int = 300,
    seeds: int = 20,
    *,
    first_seed: int = 0,
    objective: str = "accuracy",
    constraints: Iterable[str] = (),
    noise: bool = True,
    workers: int = 1,
    processes: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> BenchResult:
    """Run searchers on the benchmark of a table, each with the seeds `first_seed`, `first_seed` + 1, …

    `table` is NAS-Bench-Macro's file; `searchers` are names or `module:Class`, to which `random` is added; `budget` is
    how many evaluations each run has. `objective` is `accuracy`, or `accuracy,macs` for a Pareto front; `constraints`
    are like `"macs<=60M"`, or `"macs<=p40"` for the table's 40th percentile. Without `noise` an evaluation is the mean
    over the table's training seeds. `workers` evaluations are proposed in batches as a search with so many workers
    proposes them. `processes` runs go on at once, by default one on each processor; the figures do not depend on it.
    `on_progress` is called with the runs done and their number.

    Raises `InputError` for a request that cannot be met, and `BenchInterrupted` on Ctrl-C.
    """
    names = _names(searchers)
    Integer(1, 10_000).check("--seeds", seeds)
    Integer(1, 100_000).check("--budget", budget)
    Integer(0, 2**53).check("--first-seed", first_seed)
    Integer(1, 256).check("--workers", workers)
    Integer(0, 1_024).check("--processes", processes)
    metrics = _objectives(objective)
    evaluator = TabularEvaluator(table, noisy=noise)
    if len(evaluator.entries) != evaluator.space.size:
        rule = f"a bench needs a table of all {evaluator.space.size:,} networks of {evaluator.space.name}"
        raise InputError(rule, len(evaluator.entries), where=os.fspath(table), remedy="use the whole file")
    texts = [constraints] if isinstance(constraints, str) else constraints
    limits = [absolute(text, evaluator.entries) for text in texts]
    asked = Settings(
        budget=budget,
        seed=first_seed,
        objective=",".join(metrics),
        constraints=tuple(map(str, limits)),
        workers=workers,
    )
    truth = _check(evaluator, asked, names)
    tasks = [
        dataclasses.replace(asked, searcher=name, seed=seed)
        for name in sorted(names, key=_slowness)
        for seed in range(first_seed, first_seed + seeds)
    ]
    empty = BenchResult(
        table=os.fspath(table),
        metric=truth.metric,
        objectives=metrics,
        constraints=asked.constraints,
        allowed=truth.allowed,
        budget=budget,
        seeds=tuple(range(first_seed, first_seed + seeds)),
        noise=noise,
        workers=workers,
        curves=(),
    )
    runs: list[Run] = []
    try:
        on_progress(0, len(tasks))
        with contextlib.closing(_spread(evaluator, tasks, processes)) as finished:
            for one in finished:
                runs.append(one)
                on_progress(len(runs), len(tasks))
    except KeyboardInterrupt:
        raise BenchInterrupted(_put_together(empty, truth, names, runs) if runs else None) from None
    return _put_together(empty, truth, names, runs)


def _names(searchers: Iterable[str]) -> list[str]:
    """The searchers, random among them."""
    names = [searchers] if isinstance(searchers, str) else list(searchers)
    for name in names:
        check_name(name)
        if names.count(name) > 1:
            raise InputError("--searchers must differ", name, remedy="name it once")
    return names if BASELINE in names else [*names, BASELINE]


def _objectives(text: str) -> tuple[str, ...]:
    names = parse_names(text)
    if "accuracy" not in names or not set(names) <= {"accuracy", *KNOWN}:
        rule = f"--objective of a bench must be accuracy, alone or with {' and '.join(KNOWN)}"
        raise InputError(rule, text, remedy='write it as accuracy, or "accuracy,macs"')
    return names


def _check(evaluator: TabularEvaluator, asked: Settings, names: Sequence[str]) -> Truth:
    """See that there is something to be found, and that every searcher takes the problem."""
    asked_of = request(evaluator, asked)
    limits, problem = asked.parsed_constraints(), asked_of.problem()
    asked_of.known.refuse_unreachable(asked_of.space, limits, None)
    truth = Truth(evaluator.entries, problem.objectives, limits)
    for name in names:
        try:
            make_sampler(name, problem, asked.seed)
        except InputError as error:
            raise error.located(error.where or f"--searchers {name}") from None
    return truth


def _slowness(name: str) -> int:
    """Orders long runs first, so that none is left at the end alone. Who knows how long those of others take."""
    if ":" in name:
        return -1
    return _SLOWEST_FIRST.index(name) if name in _SLOWEST_FIRST else len(_SLOWEST_FIRST)


def _spread(evaluator: TabularEvaluator, tasks: Sequence[Settings], processes: int) -> Generator[Run]:
    """The outcomes, as they come. Joblib's processes do not import the caller's script again."""
    with joblib.parallel_config("loky", n_jobs=processes or joblib.cpu_count(), inner_max_num_threads=1):
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        yield from parallel(joblib.delayed(run)(evaluator, task) for task in tasks)


def _put_together(empty: BenchResult, truth: Truth, names: Sequence[str], runs: Sequence[Run]) -> BenchResult:
    curves = []
    for name in names:
        of_name = sorted((run for run in runs if run.searcher == name), key=lambda run: run.seed)
        if not of_name:
            continue
        ended = [len(run.fronts) for run in of_name]
        # The last pick stays.
        fronts = [run.fronts + run.fronts[-1:] * (empty.budget - len(run.fronts)) for run in of_name]
        curves.append(
            Curve(
                searcher=name,
                seeds=tuple(run.seed for run in of_name),
                values=np.array([truth.figures(one) for one in fronts]),
                ms_per_trial=float(np.mean([1000 * run.cpu_seconds / len(run.fronts) for run in of_name])),
                ended_at=min(ended) if min(ended) < empty.budget else None,
            )
        )
    return dataclasses.replace(empty, curves=empty.best_first(curves))
