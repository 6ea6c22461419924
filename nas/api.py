"""Searching from Python: `nas.search(...)` and `nas.resume(...)`."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from optuna.samplers import BaseSampler

import searchers
from evaluators import Evaluator, ImageEvaluator
from latency import Predictor, dump_table, load_table
from nas import run_folder
from nas.architectures import resolve
from nas.constraints import KNOWN_BEFORE_TRAINING
from nas.evaluation import (
    default_workers,
    described,
    fit_evaluator,
    fit_space,
    make_evaluator,
    read_images,
    refuse_changed,
    warn_of_few_images,
)
from nas.finalists import final_fidelity
from nas.known import Known
from nas.latency_tables import find_table
from nas.objective import objectives
from nas.pruning import warn_of_few_steps
from nas.result import Interrupted, SearchResult
from nas.run_folder import RunFolder
from nas.runs import default_path
from nas.session import Request, Session
from nas.settings import Settings
from nas.state import State
from search_space import Architecture, InputError, SearchSpace, load_space
from search_space.errors import did_you_mean
from search_space.space import Genotype
from search_space.space_file import at_resolutions

OnChange = Callable[[State], None]
OnProgress = Callable[[int, int], None]


def search(
    space: str | os.PathLike[str] | SearchSpace,
    budget: int,
    *,
    out: str | os.PathLike[str] | None = None,
    constraints: Iterable[str] = (),
    start: Iterable[str | os.PathLike[str] | Architecture] = (),
    resolutions: Sequence[int] | None = None,
    time_limit_s: float = math.inf,
    on_change: OnChange = lambda state: None,
    on_measure: OnProgress = lambda done, total: None,
    on_score: OnProgress = lambda done, total: None,
    on_train: OnProgress = lambda done, total: None,
    on_read: OnProgress = lambda done, total: None,
    **settings: Any,
) -> SearchResult:
    """Search a space for the best network, by training up to `budget` of them.

    `space` is a preset's name, a space file or a `SearchSpace`; `resolutions` (px) stand in for its own; `constraints`
    are like `"macs<=200M"`; `start` are networks of the space to begin with (files, run folders, `RUN/ARCH_ID`,
    references or values); further settings are the fields of `nas.settings.Settings` (`seed`, `searcher`, `data`, …).
    `on_change` is called as trials go on, `on_measure` as latencies are measured, before and after them, `on_score` as
    zero-cost scores are computed before them, `on_train` as finalists are trained, `on_read` as images are read from a
    folder for the first time.
    `out` is the run folder, by default `runs/SPACE-DATE-TIME`. Raises `InputError` for a request that cannot be met.
    """
    if isinstance(constraints, str):
        constraints = [constraints]
    if not time_limit_s > 0:
        raise InputError("time_limit_s must be above 0", time_limit_s)
    chosen = Settings(budget=budget, constraints=tuple(constraints), **settings)
    chosen.refuse_idle()
    if out is not None:
        RunFolder(Path(out)).refuse_if_used()  # before a latency table is built, or images are read, for nothing
    loaded = space if isinstance(space, SearchSpace) else load_space(space)
    if resolutions:
        loaded = at_resolutions(loaded, resolutions)
    evaluator = fit_evaluator(make_evaluator(chosen, on_read=on_read), loaded)
    final = final_fidelity(chosen, evaluator, on_read=on_read)
    if final is not None:
        fit_evaluator(final.evaluator, loaded)
    loaded = fit_space(loaded, evaluator if final is None else final.evaluator)
    _check_metrics(chosen, evaluator)
    known = _known(chosen, loaded, evaluator, on_measure)
    genotypes = _start(start, loaded)
    path = default_path(loaded.name) if out is None else Path(out)
    # Workers and device decide about the course of a search, so that they must not depend on where it is resumed.
    workers = chosen.workers or min(chosen.budget, default_workers(evaluator, chosen))
    device = str(evaluator.device) if isinstance(evaluator, ImageEvaluator) else chosen.device
    chosen = dataclasses.replace(chosen, workers=workers, device=device)
    request = Request(chosen, loaded, evaluator, known, genotypes, final)
    sampler = searchers.make_sampler(chosen.searcher, request.problem(), chosen.seed)  # raises before there is a folder
    _refuse_start_beyond_limits(request, sampler)
    if request.pruning(sampler) is not None:
        warn_of_few_steps(evaluator.steps)
    table = dump_table(known.predictor.table) if known.predictor is not None else ""
    read_images([evaluator] if final is None else [evaluator, final.evaluator])
    recorded: dict[str, Any] = {
        "evaluator": described(evaluator, chosen),
        "final": None if final is None else final.describe(),
    }
    folder = RunFolder.create(
        path, chosen, loaded, **recorded, latency=table, start=[loaded.params(genotype) for genotype in genotypes]
    )
    try:
        try:
            begun = Session(folder, request, recorded, on_change, on_score)
        except InputError:
            folder.discard()
            raise
        warn_of_few_images([evaluator])  # now that nothing can be refused any more
        return begun.run(time_limit_s, on_measure, on_train)
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
    on_score: OnProgress = lambda done, total: None,
    on_train: OnProgress = lambda done, total: None,
    on_read: OnProgress = lambda done, total: None,
) -> SearchResult:
    """Take a stopped or killed search up again; it ends as the unbroken one would have.

    Raises `InputError` if the folder is not a run, another process has it, or its data have changed.
    """
    folder = RunFolder(Path(run))
    settings, space, plain = folder.read()
    folder.lock()
    try:
        recorded, where = plain["evaluator"], str(folder.run_file)
        evaluator = fit_evaluator(make_evaluator(settings, recorded, on_read), space)
        _check_metrics(settings, evaluator)
        final = final_fidelity(settings, evaluator, plain.get("final", {}), on_read=on_read)
        if final is not None:
            fit_evaluator(final.evaluator, space)
        read_images([evaluator] if final is None else [evaluator, final.evaluator])
        refuse_changed(evaluator, recorded, settings, where)
        if final is not None:
            final.refuse_changed(plain["final"], settings, where)
        for name, version in run_folder.versions().items():
            if plain["versions"].get(name) != version:
                was = plain["versions"].get(name)
                warnings.warn(f"the run began with {name} {was}, this is {version}: scores may differ", stacklevel=2)
        predictor = None
        if settings.latency:
            folder.check_latency(plain)
            predictor = Predictor(load_table(folder.latency_file), interpolate=settings.interpolate)
        known = Known(predictor, interpolate=settings.interpolate)
        genotypes = tuple(space.genotype(params) for params in plain.get("start", []))
        request = Request(settings, space, evaluator, known, genotypes, final)
        return Session(folder, request, plain, on_change, on_score).run(time_limit_s, on_measure, on_train)
    except KeyboardInterrupt:
        raise Interrupted(folder.path) from None
    finally:
        folder.unlock()


def _known(settings: Settings, space: SearchSpace, evaluator: Evaluator, on_measure: OnProgress) -> Known:
    """What can be said before training, once it is sure that the request can be met."""
    predictor = None
    if settings.latency:
        on_cuda = isinstance(evaluator, ImageEvaluator) and evaluator.device.type == "cuda"
        table, _ = find_table(settings.latency, space, device="cuda" if on_cuda else "cpu", on_build=on_measure)
        predictor = Predictor(table, interpolate=settings.interpolate)
    known = Known(predictor, interpolate=settings.interpolate)
    names = settings.objective.split(",")
    known.refuse_unreachable(space, settings.parsed_constraints(), settings.parsed_target(), names)
    return known


def _check_metrics(settings: Settings, evaluator: Evaluator) -> None:
    """Raise `InputError` for objectives and limits on what nobody will ever know, or that can never be kept."""
    learned = evaluator.directions
    wanted = objectives(settings.objective, learned)
    constraints = settings.parsed_constraints()
    for constraint in constraints:
        if constraint.metric not in learned and constraint.metric not in KNOWN_BEFORE_TRAINING:
            remedy = did_you_mean(constraint.metric, [*learned, *KNOWN_BEFORE_TRAINING])
            raise InputError("--constraint must be on a metric that is known", constraint.metric, remedy=remedy)
        if constraint.metric == "accuracy" and constraint.bound > 1:
            raise InputError("accuracy is a share of images, from 0 to 1", str(constraint), where="--constraint")
    if all(objective.known for objective in wanted) and not any(one.metric in learned for one in constraints):
        rule = "an objective or a constraint must be something that has to be evaluated"
        remedy = f"add one of {', '.join(learned)}, as in --constraint accuracy>=0.9"
        raise InputError(rule, settings.objective, where="--objective", remedy=remedy)
    if settings.target and wanted[0].direction != "maximize":
        rule = "--target needs an objective of which more is better"
        raise InputError(rule, settings.objective, remedy="use --objective accuracy")


def _start(start: Iterable[str | os.PathLike[str] | Architecture], space: SearchSpace) -> tuple[Genotype, ...]:
    """The genotypes of the networks to begin with, each once; their classes become those of the space."""
    found: dict[str, Genotype] = {}
    for one in [start] if isinstance(start, (str, os.PathLike, Architecture)) else start:
        architecture = one if isinstance(one, Architecture) else resolve(str(one))
        fitting = architecture.replace(num_classes=space.all_constants()["num_classes"])
        found.setdefault(fitting.arch_id, space.encode(fitting))
    return tuple(found.values())


def _refuse_start_beyond_limits(request: Request, sampler: BaseSampler) -> None:
    crosses = isinstance(sampler, searchers.SpaceSampler) and sampler.crosses_limits
    problem = request.problem()
    for genotype in () if crosses else request.start:
        architecture = request.space.decode(genotype)
        broken = [
            constraint
            for constraint in request.settings.parsed_constraints()
            if constraint.metric in request.known.names and constraint.excess(problem.known(architecture)) > 0
        ]
        if broken:
            value = f"{broken[0].metric}={problem.known(architecture)[broken[0].metric]:.6g}"
            remedy = "leave it out, or use --searcher netadapt to cut it down"
            raise InputError(f"a network of --start must satisfy {broken[0]}", value, where="--start", remedy=remedy)
