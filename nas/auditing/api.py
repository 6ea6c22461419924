"""`nas.audit(...)`: samples networks, scores them in every way, and compares the rankings."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evaluators import (
    Direction,
    EvaluationFailed,
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
from evaluators.zero_cost import COUNTED, SCORES
from nas.auditing import picture
from nas.auditing.measurements import AuditFolder
from nas.auditing.measuring import cost_of, measure
from nas.auditing.ranking import LEAST_NETWORKS, Values, rank
from nas.auditing.result import AuditResult
from nas.evaluation import (
    default_workers,
    described,
    device_here,
    fit_evaluator,
    fit_space,
    read_images,
    warn_of_few_images,
    worker_device,
)
from nas.executors import make_executor
from nas.runs import default_path
from nas.settings import Settings
from search_space import Architecture, InputError, SearchSpace, load_space
from search_space.cost import count_cost
from search_space.errors import WorkFailed
from search_space.rules import Integer
from search_space.space_file import at_resolutions

AUDITS = Path("audits")
TRUTH = "truth"
_TRIES = 200
# What no search ranks by alone, but others found to say more than validation does: TSE-E (Ru et al. 2021,
# arXiv:2006.04492).
_TRIED_TOO: Mapping[str, Direction] = {"train_loss": "minimize"}


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
    whatever networks are meant for, so all networks are taken at the space's highest resolution.

    `budget_minutes` ends the audit earlier, with the networks that are in by then. `out` is the audit's folder, by
    default `audits/SPACE-DATE-TIME`. The same request with the same folder goes on; so do more networks, and other
    proxies, for which only what is missing is measured. `on_read` is called as images are read from a folder,
    `on_progress` as networks are measured, with their number, parts of networks included.

    Raises `InputError` for a request that cannot be met, `WorkFailed` if fewer than four networks have a truth, and
    `AuditInterrupted` on Ctrl-C.
    """
    Integer(LEAST_NETWORKS, 100_000).check("--networks", networks)
    if not budget_minutes > 0:
        raise InputError("--budget-minutes must be above 0", budget_minutes)
    settings = Settings(
        networks,
        seed,
        data=data,
        data_root=data_root,
        device=device,
        executor=executor,
        workers=workers,
        gpus_per_trial=gpus_per_trial,
        ray_address=ray_address,
        finalists=0,
    )
    here = device_here(settings)
    loaded = space if isinstance(space, SearchSpace) else load_space(space)
    images = load_images(data, root=data_root, on_progress=on_read)
    evaluators = _evaluators(images, proxies, truth, here, worker_device(settings))
    for one in evaluators.values():
        fit_evaluator(one, loaded)
    if isinstance(evaluators[TRUTH], ProxyTraining):
        loaded = _at_one_resolution(loaded)
    loaded = fit_space(loaded, evaluators["naswot"])
    chosen = _sample(loaded, networks, seed)
    _refuse_unknown(chosen, evaluators[TRUTH])
    warn_of_few_images(evaluators.values())
    read_images(evaluators.values())
    asked = {name: described(one, settings) for name, one in evaluators.items()}
    folder = AuditFolder(
        default_path(loaded.name, AUDITS) if out is None else Path(out), loaded.plain, settings.seed, asked
    )
    most = settings.workers or default_workers(evaluators["naswot"], settings)
    deadline = time.monotonic() + 60 * budget_minutes
    try:
        measure(
            folder,
            chosen,
            evaluators,
            lambda one, count: make_executor(
                executor,
                one,
                replace(settings.executor_options(), workers=min(most, count), retries=0),
                folder.path / "workers.log",
            ),
            seed=settings.seed,
            deadline=deadline,
            on_progress=on_progress,
        )
        result = _result(folder, chosen, loaded, evaluators, proxies, truth)
        folder.write("scores.csv", result.to_csv())
        picture.write(result, folder.path / "audit.png")
        return result
    except KeyboardInterrupt:
        raise AuditInterrupted(folder.path) from None
    finally:
        folder.close()


def _evaluators(
    data: ImageSource, proxies: Sequence[str], truth: str, device: str, worker: torch.device
) -> dict[str, Evaluator]:
    """All scores, the cheapest first; `worker` is the device that they will be computed on, `device` that for here."""
    if not proxies:
        raise InputError("--proxy must name at least one fidelity or recipe", remedy="write it as quick,standard")
    evaluators: dict[str, Evaluator] = {name: ZeroCost(name, data, device=device) for name in SCORES}
    for name in proxies:
        if name in (*SCORES, *COUNTED):
            remedy = "leave it out: all scores without training are part of every audit"
            raise InputError("--proxy must name fidelities or recipes", name, remedy=remedy)
        if name in evaluators or name == truth:
            raise InputError("--proxy and --truth must differ", name, remedy="name each once")
        evaluators[name] = proxy = ProxyTraining(data, find_recipe(name, data, worker), device=device)
        # What less of the same training is worth, at no cost.
        proxy.rungs = tuple(sorted({round(proxy.steps * third / 3) for third in (1, 2)} - {0, proxy.steps}))
    kind, _, file = truth.partition(":")
    if kind == "table" and file:
        evaluators[TRUTH] = TabularEvaluator(file, noisy=False)
    else:
        evaluators[TRUTH] = FinalTraining(data, find_recipe(truth, data, worker, option="--truth"), device=device)
    return evaluators


def _at_one_resolution(space: SearchSpace) -> SearchSpace:
    """Images of one size do not show what more resolution brings, and what is counted would differ by it."""
    unseen = len(space.resolutions) > 1 and not space.reference_px
    return at_resolutions(space, [max(space.resolutions)]) if unseen else space


def _refuse_unknown(chosen: Sequence[Architecture], truth: Evaluator) -> None:
    """Raise `InputError` for a network that a table does not know, before anything is trained for it."""
    if not isinstance(truth, TabularEvaluator):
        return
    for network in chosen:
        try:
            truth.true_accuracy(network.arch_id)
        except EvaluationFailed as failure:
            rule = f"--truth must know all networks of the space: {failure}"
            raise InputError(rule, remedy="name the table's own --space, or a --truth to train by") from None


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


def _result(
    folder: AuditFolder,
    chosen: Sequence[Architecture],
    space: SearchSpace,
    evaluators: Mapping[str, Evaluator],
    proxies: Sequence[str],
    truth: str,
) -> AuditResult:
    real, trained_truth = evaluators[TRUTH], isinstance(evaluators[TRUTH], ProxyTraining)
    metric = f"{TRUTH}/{'test_accuracy' if trained_truth else 'accuracy'}"
    tried = [number for number in range(len(chosen)) if folder.of(number, TRUTH) is not None]
    numbers = [number for number in tried if metric in folder.metrics(number, TRUTH)]
    failures = {name: said for name in evaluators if (said := _failures(folder, tried, name))}
    if len(numbers) < LEAST_NETWORKS:
        why = f"; {failures[TRUTH]}" if TRUTH in failures else ""
        rule = f"an audit needs {LEAST_NETWORKS} networks with a truth, and there are {len(numbers)}{why}"
        raise WorkFailed(f"{rule} ({folder.path}); ask again with the same --out to go on")

    def values(score: str, evaluator: str, metric: str, sign: int = 1) -> Values:
        measured = [folder.metrics(number, evaluator).get(f"{score}/{metric}") for number in numbers]
        seconds = [taken for number in numbers if (taken := folder.seconds(number, evaluator, score)) is not None]
        signed = [None if value is None else sign * value for value in measured]
        return Values(metric, signed, float(np.median(seconds)) if seconds else 0.0, evaluator in proxies)

    scores = {name: values(name, name, name) for name in SCORES}
    counted = [count_cost(chosen[number]).metrics() for number in numbers]
    scores.update({name: Values(name, [cost[name] for cost in counted]) for name in COUNTED})
    best_by = ProxyTraining.ranks_by
    for score, (name, _) in Several({name: evaluators[name] for name in proxies}).scores.items():
        scores[score] = values(score, name, best_by)
        if score == name:
            for other, direction in {**ProxyTraining.directions, **_TRIED_TOO}.items():
                if other != best_by:
                    sign = 1 if direction == "maximize" else -1
                    scores[f"{name} {other}"] = values(score, name, other, sign)
    had_no_turn = any(folder.of(number, name) is None for number in range(len(chosen)) for name in evaluators)
    ranked, baseline = rank(scores, [folder.metrics(number, TRUTH)[metric] for number in numbers])
    costs = {name: cost_of(real) / cost_of(evaluators[name]) for name in proxies} if trained_truth else {}
    return AuditResult(
        out=folder.path,
        space=space.name,
        resolutions_px=space.resolutions,
        truth=truth,
        truth_values=tuple(folder.metrics(number, TRUTH)[metric] for number in numbers),
        truth_seconds_per_network=values(TRUTH, TRUTH, metric).seconds_per_network,
        truth_costs=costs,
        arch_ids=tuple(chosen[number].arch_id for number in numbers),
        ranked=ranked,
        baseline=baseline,
        proxies=tuple(sorted(proxies, key=lambda name: cost_of(evaluators[name]))),
        failures=failures,
        stopped_by="time" if had_no_turn else "networks",
    )


def _failures(folder: AuditFolder, numbers: Sequence[int], evaluator: str) -> str:
    """How many of the networks an evaluator could not score, and why the first."""
    reasons = [known.reason for number in numbers if (known := folder.of(number, evaluator)) and known.reason]
    return f"{len(reasons)} of {len(numbers)} networks failed, the first: {reasons[0]}" if reasons else ""
