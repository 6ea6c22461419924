"""`nas.audit(...)`: samples networks, scores them in every way, and compares the rankings."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluators import (
    Evaluator,
    FinalTraining,
    ImageSource,
    ProxyTraining,
    Several,
    TabularEvaluator,
    ZeroCost,
    find_recipe,
    load_images,
)
from evaluators.device import choose_device
from evaluators.recipe import training_cost
from evaluators.zero_cost import COUNTED, SCORES
from nas.auditing import picture
from nas.auditing.measurements import AuditFolder, Measured
from nas.auditing.result import LEAST_NETWORKS, AuditResult, rank
from nas.evaluation import default_workers, fit_evaluator, fit_space
from nas.executors import EXECUTORS, Executor, ExecutorOptions, Failed, Finished, Job, Progress, make_executor
from nas.runs import default_path
from search_space import Architecture, InputError, SearchSpace, load_space
from search_space.cost import count_cost
from search_space.errors import WorkFailed, did_you_mean
from search_space.rules import Integer
from search_space.space_file import at_resolutions

AUDITS = Path("audits")
TRUTH = "truth"
_TRIES = 200


class AuditInterrupted(KeyboardInterrupt):
    """An audit was stopped from outside; asked for again with the folder `out`, it goes on."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out = out


def audit(
    space: str | os.PathLike[str] | SearchSpace,
    data: str = "digits",
    networks: int = 40,
    *,
    proxies: Sequence[str] = ("quick", "standard"),
    truth: str = "thorough",
    budget_minutes: float = math.inf,
    out: str | os.PathLike[str] | None = None,
    data_root: str = "data",
    seed: int = 0,
    device: str = "auto",
    workers: int = 0,
    executor: str = "inline",
    gpus_per_trial: float = 0.0,
    ray_address: str = "",
    on_progress: Callable[[float, int], None] = lambda done, total: None,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> AuditResult:
    """Score random networks of a space cheaply and thoroughly, and see how well the cheap scores rank.

    `proxies` and `truth` are fidelities or recipes as `--proxy` takes them; the truth is the accuracy on the test
    images after training by `truth`, or with `table:FILE` that of a benchmark's table. All zero-cost scores are
    compared, too, and the plain counts of parameters, multiply–adds and activations. Training shows images of one size
    whatever networks are meant for, so all networks are taken at the space's highest resolution. `budget_minutes` ends
    the audit earlier, with the networks that are in by then.
    `out` is the audit's folder, by default `audits/SPACE-DATE-TIME`; the same request with the same folder goes on.
    `on_read` is called as images are read from a folder, `on_progress` as networks are measured, with
    their number, parts of networks included.

    Raises `InputError` for a request that cannot be met, `WorkFailed` if fewer than four networks could be measured,
    and `AuditInterrupted` on Ctrl-C.
    """
    Integer(LEAST_NETWORKS, 100_000).check("--networks", networks)
    Integer(0, 2**63 - 1).check("--seed", seed)
    Integer(0, 1_024).check("--workers", workers)
    if not budget_minutes > 0:
        raise InputError("--budget-minutes must be above 0", budget_minutes)
    if executor not in EXECUTORS:
        raise InputError("--executor must be a known name", executor, remedy=did_you_mean(executor, EXECUTORS))
    loaded = space if isinstance(space, SearchSpace) else load_space(space)
    images = load_images(data, root=data_root, on_progress=on_read)
    several = _evaluators(images, proxies, truth, "cpu" if executor == "ray" else device)
    loaded = _at_one_resolution(loaded, several)
    for one in several.evaluators.values():
        fit_evaluator(one, loaded)
    loaded = fit_space(loaded, several.evaluators["naswot"])
    chosen = _sample(loaded, networks, seed)
    asked = {"space": loaded.plain, "networks": networks, "seed": seed, "scores": several.describe()}
    folder = AuditFolder(default_path(loaded.name, AUDITS) if out is None else Path(out), _plain(asked))
    workers = workers or min(networks, default_workers(several.evaluators["naswot"]))
    try:
        on_progress(len(folder.measured), len(chosen))
        deadline = time.monotonic() + 60 * budget_minutes
        options = ExecutorOptions(workers, gpus_per_trial, ray_address)
        running = make_executor(executor, several, options, folder.path / "workers.log")
        try:
            _measure(folder, running, chosen, several, seed, deadline, on_progress)
        finally:
            running.close()
        result = _result(folder, chosen, loaded.name, several, proxies, truth)
        folder.write("scores.csv", result.to_csv())
        picture.write(result, folder.path / "audit.png")
        return result
    except KeyboardInterrupt:
        raise AuditInterrupted(folder.path) from None
    finally:
        folder.close()


def _evaluators(data: ImageSource, proxies: Sequence[str], truth: str, device: str) -> Several:
    """All scores, the cheapest first."""
    if not proxies:
        raise InputError("--proxy must name at least one fidelity or recipe", remedy="write it as quick,standard")
    where = choose_device(device)
    several: dict[str, Evaluator] = {name: ZeroCost(name, data, device=device) for name in SCORES}
    for name in proxies:
        if name in several or name == truth:
            raise InputError("--proxy and --truth must differ", name, remedy="name each once")
        several[name] = proxy = ProxyTraining(data, find_recipe(name, data, where), device=device)
        proxy.rungs = tuple(range(1, proxy.steps))  # what less of the same training is worth, at no cost
    kind, _, file = truth.partition(":")
    if kind == "table" and file:
        several[TRUTH] = TabularEvaluator(file, noisy=False)
    else:
        several[TRUTH] = FinalTraining(data, find_recipe(truth, data, where), device=device)
    return Several(several)


def _at_one_resolution(space: SearchSpace, several: Several) -> SearchSpace:
    """Images of one size do not show what more resolution brings, and what is counted would differ by it."""
    trained = isinstance(several.evaluators[TRUTH], ProxyTraining)
    unseen = len(space.resolutions) > 1 and not space.reference_px
    return at_resolutions(space, [max(space.resolutions)]) if trained and unseen else space


def _plain(asked: Any) -> Any:
    """As it will be read back from YAML."""
    from search_space.documents import parse_document, to_yaml

    return parse_document(to_yaml(asked)).data


def _sample(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Distinct random networks; fewer if the space has no more."""
    rng = np.random.default_rng(seed)
    found: dict[str, Architecture] = {}
    for _ in range(_TRIES * count):
        architecture = space.decode(space.sample(rng))
        found.setdefault(architecture.arch_id, architecture)
        if len(found) == count:
            break
    return list(found.values())


def _measure(
    folder: AuditFolder,
    executor: Executor,
    chosen: Sequence[Architecture],
    several: Several,
    seed: int,
    deadline: float,
    on_progress: Callable[[float, int], None],
) -> None:
    """Measure what is missing, as many networks at once as there are workers."""
    done = {one.number for one in folder.measured}
    waiting = deque(number for number in range(len(chosen)) if number not in done)
    reported: dict[int, dict[int, float]] = {}  # of the networks under way, when each step was done
    shares = _shares(several)
    while reported or (waiting and time.monotonic() < deadline):
        while waiting and len(reported) < executor.workers and time.monotonic() < deadline:
            number = waiting.popleft()
            executor.submit(Job(number, chosen[number], seed))
            reported[number] = {}
        event = executor.wait()
        if isinstance(event, Progress):
            times, step = reported[event.key], event.report.step
            if step == 1:
                times.clear()  # another try begins again
            times[step] = time.perf_counter()
        else:
            metrics = event.metrics if isinstance(event, Finished) else {}
            seconds = _seconds(several, reported.pop(event.key))
            reason = event.reason if isinstance(event, Failed) else ""
            folder.append(Measured(event.key, chosen[event.key].arch_id, dict(metrics), seconds, reason))
        on_progress(
            len(folder.measured) + sum(shares[max(times, default=1)] for times in reported.values()), len(chosen)
        )


def _shares(several: Several) -> dict[int, float]:
    """Step -> how much of a network's evaluation is done with it: all but training takes next to no time."""
    costs = [0.0]
    for evaluator in several.evaluators.values():
        cost = training_cost(evaluator.recipe, evaluator.data) if isinstance(evaluator, ProxyTraining) else 0.0
        costs += [cost / evaluator.steps] * evaluator.steps
    return {step: float(done / sum(costs)) for step, done in enumerate(np.cumsum(costs), 1)}


def _seconds(several: Several, times: Mapping[int, float]) -> dict[str, float]:
    """What each score took, since its evaluator began; `times` has when each step was done."""
    begun: dict[str, float] = {}
    before, seconds = 1, {}
    for name, score in several.scores.items():
        if score.step in times:
            seconds[name] = times[score.step] - begun.setdefault(score.evaluator, times[before])
            before = score.step
    return seconds


def _result(
    folder: AuditFolder,
    chosen: Sequence[Architecture],
    space: str,
    several: Several,
    proxies: Sequence[str],
    truth: str,
) -> AuditResult:
    measured = sorted((one for one in folder.measured if not one.reason), key=lambda one: one.number)
    failed = len(folder.measured) - len(measured)
    if len(measured) < LEAST_NETWORKS:
        why = next((f"; the first failed: {one.reason}" for one in folder.measured if one.reason), "")
        rule = f"an audit needs {LEAST_NETWORKS} networks with all scores, and there are {len(measured)}{why}"
        raise WorkFailed(f"{rule} ({folder.path}); ask again with the same --out to go on")

    def column(name: str, sign: int = 1) -> list[float]:
        return [sign * one.metrics[name] for one in measured]

    def seconds(name: str) -> float:
        return float(np.mean([one.seconds[name] for one in measured]))

    scores = {name: (name, column(f"{name}/{name}"), seconds(name)) for name in SCORES}
    counted = [count_cost(chosen[one.number]).metrics() for one in measured]
    scores.update({name: (name, [cost[name] for cost in counted], 0.0) for name in COUNTED})
    for name in (name for name, score in several.scores.items() if score.evaluator in proxies):
        for metric, direction in ProxyTraining.directions.items():
            sign = 1 if direction == "maximize" else -1
            row = name if metric == ProxyTraining.ranks_by else f"{name} {metric}"
            scores[row] = (metric, column(f"{name}/{metric}", sign), seconds(name))
    real = column(
        f"{TRUTH}/{'accuracy' if isinstance(several.evaluators[TRUTH], TabularEvaluator) else 'test_accuracy'}"
    )
    return AuditResult(
        out=folder.path,
        space=space,
        truth=truth,
        truth_values=tuple(real),
        truth_seconds_per_network=seconds(TRUTH),
        arch_ids=tuple(one.arch_id for one in measured),
        ranked=rank(scores, real),
        proxies=tuple(sorted(proxies, key=seconds)),
        failed=failed,
        stopped_by="networks" if len(folder.measured) == len(chosen) else "time",
    )
