"""Multi-fidelity: trials that fall behind are stopped early, by one of Optuna's pruners.

Order decides, not speed: trial n is judged against exactly the trials that the sampler had been told when it proposed
it. So the judge can be sent with the job, and a search takes the same course however fast its workers are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from evaluators import Evaluator
from nas.executors.judging import Judge, make_study
from search_space import InputError
from searchers import Problem

REDUCTION_FACTOR = 3
"""Of the trials that reach a rung about one in so many goes on; it then trains so many times longer."""
_FEW_STEPS = 4

_MAKERS: dict[str, Callable[[int, int], BasePruner]] = {
    # Asynchronous successive halving. Li et al. 2020, arXiv:1810.05934.
    "asha": lambda first, steps: SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION_FACTOR),
    # Successive halving that begins at another rung for some trials. Li et al. 2018, arXiv:1603.06560.
    "hyperband": lambda first, steps: HyperbandPruner(first, steps, REDUCTION_FACTOR),
    # Golovin et al. 2017 (Vizier), median stopping rule.
    "median": lambda first, steps: MedianPruner(),
}
NONE = "none"
PRUNERS = (NONE, *_MAKERS)


def rungs(steps: int) -> tuple[int, ...]:
    """After how many of `steps` a pruner is asked: about 1/3, 1/9, 1/27, … of them, each three times the one before."""
    halvings = max(1, round(math.log(steps, REDUCTION_FACTOR)))
    first = math.ceil(steps / REDUCTION_FACTOR**halvings)
    found = [first]
    while found[-1] * REDUCTION_FACTOR < steps:
        found.append(found[-1] * REDUCTION_FACTOR)
    return tuple(found)


def make_pruning(
    name: str, problem: Problem, evaluator: Evaluator, metric: str, *, crosses_limits: bool = False
) -> Pruning | None:
    """The pruning that a request wants, if any; `metric` is what the evaluator calls the objective (or a reward's).

    Raises `InputError` where networks cannot be compared while they are trained.
    """
    if name == NONE:
        return None
    where, without = "--pruner", "leave out --pruner"
    if len(problem.objectives) > 1:
        value = ",".join(objective.metric for objective in problem.objectives)
        raise InputError("a pruner needs a single objective", value, where=where, remedy=f"name one, or {without}")
    if evaluator.steps < 2:
        rule = "a pruner needs an evaluator that trains for several epochs"
        remedy = f"{without}, or use --evaluator proxy with a --proxy of more epochs"
        raise InputError(rule, f"{evaluator.describe()['evaluator']}: 1 step", where=where, remedy=remedy)
    if metric not in evaluator.directions:
        rule = "a pruner needs an objective that training tells"
        raise InputError(rule, metric, where=where, remedy=f"use --objective {next(iter(evaluator.directions))}")
    if problem.learned_limits:
        rule = "a pruner cannot know whether a network keeps a limit that only training tells"
        remedy = f"leave out the constraint, or {without}"
        raise InputError(rule, problem.learned_limits[0], where=where, remedy=remedy)
    if crosses_limits:
        rule = "a pruner is not for a searcher that goes on with networks worse than those before"
        raise InputError(rule, where=where, remedy=f"use another --searcher, or {without}")
    return Pruning(name, problem, evaluator.steps, metric)


def warn_of_few_steps(steps: int) -> None:
    """Say what a pruner can save at most, if that is little."""
    if steps < _FEW_STEPS:
        first = rungs(steps)[0]
        saved = f"{steps} epochs leave a pruner little: a network costs at least {first}/{steps} of a training"
        warnings.warn(f"{saved}; it is meant for longer ones, as --proxy thorough or a recipe's file", stacklevel=3)


class Pruning:
    """Judges for the trials to come, made of those that have been told."""

    def __init__(self, name: str, problem: Problem, steps: int, metric: str) -> None:
        [objective] = problem.objectives
        self.rungs = rungs(steps)
        self._direction, self._sign, self._metric = objective.direction, objective.sign, metric
        self._pruner = _MAKERS[name](self.rungs[0], steps)
        self._study = make_study(self._pruner, objective.direction)
        self._whole: list[tuple[Mapping[int, float], float]] = []  # of those not stopped: reports, and the result

    def judge(self, number: int, factor: float = 1.0) -> Judge:
        """The judge of trial `number`, as things stand."""
        told = tuple(self._study.get_trials(deepcopy=False))
        return Judge(self._pruner, self._direction, self._metric, factor, self.rungs, number, told)

    def tell(self, reported: Mapping[int, float], value: float | None) -> None:
        """The next trial, in order of numbers: what was compared at its rungs, and its result, None if it has none.

        A failed trial has neither.
        """
        trial = self._study.ask()
        for step, seen in reported.items():
            trial.report(seen, step)
            trial.should_prune()  # what counts has been decided: here the pruner takes its notes of the trial
        if value is not None:
            self._study.tell(trial, value)
            if reported:
                self._whole.append((reported, value))
        else:
            self._study.tell(trial, state=TrialState.PRUNED if reported else TrialState.FAIL)

    def stand_in(self, reported: Mapping[int, float]) -> float | None:
        """A value of the objective for searchers that want one of a network which was stopped. None if none is known.

        It is a guess on the safe side, below what any network came to that was ahead when it was stopped: the worst
        result of those, less what it was behind the last of them.
        """
        step, value = max(reported.items())
        seen = [(self._sign * before[step], self._sign * after) for before, after in self._whole if step in before]
        ahead = [(before, after) for before, after in seen if before >= self._sign * value]
        if not seen:
            return None
        behind = min(before for before, _ in ahead) - self._sign * value if ahead else 0.0
        return self._sign * (min(after for _, after in ahead or seen) - behind)
