"""Stopping an evaluation early: what an Optuna pruner says to its reports, asked where the evaluation runs."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluators import Direction, EvaluationFailed, Report

if TYPE_CHECKING:  # workers without a pruner need not load Optuna
    from optuna import Study
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial

_STUDY_NAME = "nas"  # Hyperband draws a trial's bracket from this and the trial's number: always the same


@dataclass(frozen=True)
class Judge:
    """Goes with a job, and knows all that decides about it: so neither timing nor place changes a decision."""

    pruner: BasePruner
    direction: Direction
    metric: str
    """What is compared, as the evaluator calls it."""
    factor: float
    """It is multiplied by this before: with a target, the reward of a network is its score times a constant."""
    rungs: tuple[int, ...]
    """After so many steps the pruner is asked."""
    number: int
    """Of the trial."""
    told: tuple[FrozenTrial, ...]
    """The trials against which it is judged: the first ones of the search, with what they had reported."""

    def open(self) -> Judgement:
        """Begin to listen to the reports of the trial."""
        return Judgement(self)


class Judgement:
    """The reports of one trial so far, and whether it is to go on."""

    def __init__(self, judge: Judge) -> None:
        from optuna.trial import TrialState, create_trial

        self._judge = judge
        study = make_study(judge.pruner, judge.direction)
        study.add_trials(judge.told)
        for _ in range(judge.number - len(judge.told)):  # under way as well: nothing is known of them
            study.add_trial(create_trial(state=TrialState.RUNNING))
        self._trial = study.ask()
        self.reported: dict[int, float] = {}
        """Step -> what was compared."""

    def stops(self, report: Report) -> bool:
        """Whether the trial ends with this report. Raises `EvaluationFailed` for a value that cannot be compared."""
        judge = self._judge
        if report.step not in judge.rungs or report.step >= report.total_steps:
            return False
        value = judge.factor * report.metrics[judge.metric]
        if not math.isfinite(value):
            raise EvaluationFailed(f"the evaluator returned {judge.metric} = {value} after step {report.step}")
        self.reported[report.step] = value
        self._trial.report(value, report.step)
        return self._trial.should_prune()


def make_study(pruner: BasePruner, direction: Direction) -> Study:
    """A study in memory, of which only the pruner is used."""
    import optuna

    logging.getLogger("optuna").setLevel(logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(study_name=_STUDY_NAME, direction=direction, sampler=sampler, pruner=pruner)
