"""Searching from Python: `nas.search(...)` and `nas.resume(...)`."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluators import Evaluator, ProxyTraining, Recipe, load_images
from nas import run_folder
from nas.constraints import COUNTED, Constraint
from nas.executors import make_executor
from nas.loop import Best, SearchLoop, State
from nas.record import TrialLog
from nas.run_folder import RunFolder
from nas.settings import Settings
from search_space import Architecture, InputError, SearchSpace, load_space
from search_space.errors import did_you_mean
from search_space.reach import cost_range
from searchers import distributions, make_sampler

OnChange = Callable[[State], None]


class Interrupted(KeyboardInterrupt):
    """The search was stopped from outside; `run` is the folder to resume."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run


class NothingFound(InputError):
    """The search ended without a single network, because none satisfies the constraints."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    run: Path
    """The run folder."""
    best: BestNetwork | None
    """None if every trial failed."""
    counts: dict[str, int]
    """`complete`, `failed`, `pruned` trials; `infeasible`, `duplicate` proposals."""
    stopped_by: str
    """`budget`, `exhausted` (nothing new was proposed any more) or `time limit`."""
    wall_time_s: float
    """Over all sessions that ended by themselves or by Ctrl-C."""
    training_time_s: float
    """Time inside evaluations, summed over workers and sessions."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data of `summary.json` and `nas search --json`."""
        return {
            "run": str(self.run),
            "best": self.best and {"arch_id": self.best.architecture.arch_id, "metrics": self.best.metrics},
            "counts": self.counts,
            "stopped_by": self.stopped_by,
            "wall_time_s": round(self.wall_time_s, 3),
            "training_time_s": round(self.training_time_s, 3),
        }


@dataclass(frozen=True)
class BestNetwork:
    """The winner and its metrics, counted cost among them."""

    architecture: Architecture
    metrics: dict[str, float]

    @property
    def arch_id(self) -> str:
        """Content hash of the architecture."""
        return self.architecture.arch_id


def search(
    space: str | os.PathLike[str] | SearchSpace,
    budget: int,
    *,
    out: str | os.PathLike[str] | None = None,
    constraints: Iterable[str] = (),
    time_limit_s: float = math.inf,
    on_change: OnChange = lambda state: None,
    **settings: Any,
) -> SearchResult:
    """Search a space for the best network, by training up to `budget` of them.

    `space` is a preset's name, a space file or a `SearchSpace`; `constraints` are like `"macs<=200M"`; further
    settings are the fields of `nas.settings.Settings` (`seed`, `searcher`, `objective`, `data`, `workers`, …).
    `out` is the run folder, by default `runs/SPACE-DATE-TIME`. Raises `InputError` for a request that cannot be met.
    """
    if isinstance(constraints, str):
        constraints = [constraints]
    if not time_limit_s > 0:
        raise InputError("time_limit_s must be above 0", time_limit_s)
    chosen = Settings(budget=budget, constraints=tuple(constraints), **settings)
    loaded = space if isinstance(space, SearchSpace) else load_space(space)
    evaluator = _evaluator(chosen)
    loaded = _fit(loaded, evaluator)
    _check_objective(chosen, evaluator)
    path = run_folder.default_path(loaded.name) if out is None else Path(out)
    # Workers and device decide about the course of a search, so that they must not depend on where it is resumed.
    workers = chosen.workers or min(chosen.budget, default_workers(evaluator))
    chosen = dataclasses.replace(chosen, workers=workers, device=str(evaluator.device))
    folder = RunFolder.create(path, chosen, loaded, evaluator.describe())
    try:
        return _run(folder, chosen, loaded, evaluator, time_limit_s, on_change)
    except KeyboardInterrupt:
        raise Interrupted(path) from None
    finally:
        folder.unlock()


def resume(
    run: str | os.PathLike[str], *, time_limit_s: float = math.inf, on_change: OnChange = lambda state: None
) -> SearchResult:
    """Take a stopped or killed search up again; it ends as the unbroken one would have.

    Raises `InputError` if the folder is not a run, another process has it, or its data have changed.
    """
    folder = RunFolder(Path(run))
    settings, space, plain = folder.read()
    folder.lock()
    try:
        recorded = plain["evaluator"]
        if recorded.get("evaluator") != "proxy":
            remedy = "restore the file"
            raise InputError("the run must have been made by proxy training", where=str(folder.run_file), remedy=remedy)
        evaluator = _evaluator(settings, recorded["recipe"])
        _check_objective(settings, evaluator)
        now = evaluator.describe()
        if now["data"] != recorded["data"]:
            rule = "the data must be those the run began with"
            raise InputError(rule, settings.data, where=str(folder.run_file), remedy="restore them, or start a new run")
        for name, version in run_folder.versions().items():
            if plain["versions"].get(name) != version:
                was = plain["versions"].get(name)
                warnings.warn(f"the run began with {name} {was}, this is {version}: scores may differ", stacklevel=2)
        return _run(folder, settings, space, evaluator, time_limit_s, on_change)
    except KeyboardInterrupt:
        raise Interrupted(folder.path) from None
    finally:
        folder.unlock()


def _evaluator(settings: Settings, recipe: dict[str, Any] | None = None) -> ProxyTraining:
    data = load_images(settings.data, root=settings.data_root)
    try:
        chosen = Recipe(**recipe) if recipe is not None else None
    except TypeError as error:
        raise InputError(f"the recorded recipe cannot be read: {error}", remedy="start a new run") from None
    return ProxyTraining(data, chosen, device=settings.device)


def _fit(space: SearchSpace, evaluator: ProxyTraining) -> SearchSpace:
    """The space for the user's own classes, unless it says for how many itself."""
    classes = evaluator.data.num_classes
    if "num_classes" not in space.constants:
        space = space.with_constants(num_classes=classes)
    if space.constants["num_classes"] < classes:
        rule = f"num_classes of the space must be at least that of the data, {classes}"
        raise InputError(rule, space.constants["num_classes"], where=space.name, remedy="raise it, or leave it out")
    if space.constants.get("input_channels", 3) not in (1, 3):
        rule = "input_channels must be 1 or 3 for images"
        raise InputError(rule, space.constants["input_channels"], where=space.name, remedy="change it, or leave it out")
    return space


def _check_objective(settings: Settings, evaluator: Evaluator) -> None:
    if settings.objective not in evaluator.directions:
        remedy = did_you_mean(settings.objective, evaluator.directions)
        raise InputError("--objective must be a metric of the evaluator", settings.objective, remedy=remedy)


def _run(
    folder: RunFolder,
    settings: Settings,
    space: SearchSpace,
    evaluator: ProxyTraining,
    time_limit_s: float,
    on_change: OnChange,
) -> SearchResult:
    started, earlier = time.monotonic(), folder.earlier_wall_time_s()
    direction = evaluator.directions[settings.objective]
    log = TrialLog(folder.journal, direction, settings.objective, distributions(space))
    recorded = log.read(COUNTED)
    executor = make_executor(settings.executor, evaluator, settings.workers, folder.worker_log)
    written: Best | None = None

    def changed(state: State) -> None:
        nonlocal written
        if state.best is not written and state.best is not None and state.done >= len(recorded):
            written = state.best
            folder.write_best(_named(state.best, space, folder, evaluator))
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
        constraints=settings.parsed_constraints(),
        recorded=recorded,
        window=1 if settings.workers == 1 else 2 * settings.workers,
        on_change=changed,
    )

    def result(stopped_by: str) -> SearchResult:
        best, found = loop.state.best, None
        if best is not None:
            metrics = {**best.record.metrics, **best.record.cost}
            found = BestNetwork(_named(best, space, folder, evaluator), metrics)
        counts = {name: loop.state.counts[name] for name in ("complete", "failed", "pruned", "infeasible", "duplicate")}
        seconds = earlier + time.monotonic() - started
        return SearchResult(folder.path, found, counts, stopped_by, seconds, loop.state.training_seconds)

    try:
        stopped_by = loop.run(deadline=started + time_limit_s)
    except KeyboardInterrupt:
        folder.write_summary(result("interrupted").to_dict())
        raise
    finally:
        executor.close()
    ended = result(stopped_by)
    folder.write_summary(ended.to_dict())
    if ended.counts["complete"] + ended.counts["failed"] == 0 and stopped_by == "exhausted":
        raise _nothing_feasible(space, settings.parsed_constraints(), ended.counts["infeasible"])
    return ended


def default_workers(evaluator: ProxyTraining) -> int:
    """One worker for each processor this process may use, each training with one thread; one on a GPU."""
    if evaluator.device.type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _named(best: Best, space: SearchSpace, folder: RunFolder, evaluator: ProxyTraining) -> Architecture:
    """The winner as it is written: named after its space, with where it comes from."""
    provenance = {
        "arch_id": best.architecture.arch_id,
        "run": str(folder.path),
        "trial": best.number,
        "space": space.name,
        "data": evaluator.data.name,
        "proxy_resolution_px": evaluator.recipe.resolution_px,
        "metrics": {**best.record.metrics, **best.record.cost},
    }
    return best.architecture.replace(name=f"{space.name}-{best.architecture.arch_id}", provenance=provenance)


def _nothing_feasible(space: SearchSpace, constraints: list[Constraint], proposals: int) -> NothingFound:
    rule = f"no network of {space.name} among {proposals:,} proposals satisfies {' and '.join(map(str, constraints))}"
    ranges = []
    for metric in dict.fromkeys(constraint.metric for constraint in constraints):
        least, greatest = cost_range(space, metric)
        ranges.append(f"{metric} from {least:.4g} to {greatest:.4g}")
    return NothingFound(rule, where="--constraint", remedy=f"the space reaches {' and '.join(ranges)}")
