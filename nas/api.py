"""Searching from Python: `nas.search(...)` and `nas.resume(...)`."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from evaluators import Evaluator, ProxyTraining, Recipe, load_images
from latency import Predictor, dump_table, load_table
from nas import run_folder, session
from nas.known import Known
from nas.latency_tables import find_table
from nas.loop import State
from nas.result import Interrupted, SearchResult
from nas.run_folder import RunFolder
from nas.runs import default_path
from nas.settings import Settings
from search_space import InputError, SearchSpace, load_space
from search_space.errors import did_you_mean
from search_space.space_file import at_resolutions

OnChange = Callable[[State], None]
OnProgress = Callable[[int, int], None]


def search(
    space: str | os.PathLike[str] | SearchSpace,
    budget: int,
    *,
    out: str | os.PathLike[str] | None = None,
    constraints: Iterable[str] = (),
    resolutions: Sequence[int] | None = None,
    time_limit_s: float = math.inf,
    on_change: OnChange = lambda state: None,
    on_measure: OnProgress = lambda done, total: None,
    **settings: Any,
) -> SearchResult:
    """Search a space for the best network, by training up to `budget` of them.

    `space` is a preset's name, a space file or a `SearchSpace`; `resolutions` (px) stand in for its own; `constraints`
    are like `"macs<=200M"`; further settings are the fields of `nas.settings.Settings` (`seed`, `searcher`, `data`, …).
    `on_change` is called as trials go on, `on_measure` as latencies are measured, before and after them.
    `out` is the run folder, by default `runs/SPACE-DATE-TIME`. Raises `InputError` for a request that cannot be met.
    """
    if isinstance(constraints, str):
        constraints = [constraints]
    if not time_limit_s > 0:
        raise InputError("time_limit_s must be above 0", time_limit_s)
    chosen = Settings(budget=budget, constraints=tuple(constraints), **settings)
    loaded = space if isinstance(space, SearchSpace) else load_space(space)
    if resolutions:
        loaded = at_resolutions(loaded, resolutions)
    evaluator = _evaluator(chosen)
    loaded = _fit(loaded, evaluator)
    _check_objective(chosen, evaluator)
    known = _known(chosen, loaded, evaluator, on_measure)
    path = default_path(loaded.name) if out is None else Path(out)
    # Workers and device decide about the course of a search, so that they must not depend on where it is resumed.
    workers = chosen.workers or min(chosen.budget, default_workers(evaluator))
    chosen = dataclasses.replace(chosen, workers=workers, device=str(evaluator.device))
    table = dump_table(known.predictor.table) if known.predictor is not None else ""
    folder = RunFolder.create(path, chosen, loaded, evaluator.describe(), table)
    try:
        return session.run(folder, chosen, loaded, evaluator, known, time_limit_s, on_change, on_measure)
    except KeyboardInterrupt:
        raise Interrupted(path) from None
    finally:
        folder.unlock()


def resume(
    run: str | os.PathLike[str],
    *,
    time_limit_s: float = math.inf,
    on_change: OnChange = lambda state: None,
    on_measure: OnProgress = lambda done, total: None,
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
        predictor = None
        if settings.latency:
            folder.check_latency(plain)
            predictor = Predictor(load_table(folder.latency_file), interpolate=settings.interpolate)
        known = Known(predictor, interpolate=settings.interpolate)
        return session.run(folder, settings, space, evaluator, known, time_limit_s, on_change, on_measure)
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


def _known(settings: Settings, space: SearchSpace, evaluator: ProxyTraining, on_measure: OnProgress) -> Known:
    """What can be said before training, once it is sure that the request can be met."""
    predictor = None
    if settings.latency:
        device = evaluator.device.type if evaluator.device.type == "cuda" else "cpu"
        table, _ = find_table(settings.latency, space, device=device, on_build=on_measure)
        predictor = Predictor(table, interpolate=settings.interpolate)
    known = Known(predictor, interpolate=settings.interpolate)
    known.refuse_unreachable(space, settings.parsed_constraints(), settings.parsed_target())
    return known


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
    if settings.target and evaluator.directions[settings.objective] != "maximize":
        rule = "--target needs an objective of which more is better"
        raise InputError(rule, settings.objective, remedy="use --objective accuracy")


def default_workers(evaluator: ProxyTraining) -> int:
    """One worker for each processor this process may use, each training with one thread; one on a GPU."""
    if evaluator.device.type != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
