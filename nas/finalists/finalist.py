"""A finalist, and how finalists are judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluators import FinalTraining
from latency import Times
from nas.constraints import LATENCY, Constraint, violated
from nas.finalists.training import Trained
from nas.scored import Scored
from nas.target import REWARD, Target
from searchers import Objective

MEASURED = "measured_latency_ms"
"""The 10th percentile of a finalist's times, the statistic that tables are calibrated to."""


@dataclass(frozen=True)
class Finalist:
    """A candidate with its measured latency, its final scores, or both."""

    best: Scored
    times: Times | None = None
    trained: Trained | None = None
    broken: tuple[Constraint, ...] = ()
    """Constraints that do not hold with the measured latency and the final scores."""
    reward: float | None = None
    """The reward with the measured latency and the final score, if there is a target."""
    judged: Mapping[str, float] = field(default_factory=dict, repr=False)
    """What it is judged by: all metrics, those measured anew in place of those predicted."""

    @property
    def arch_id(self) -> str:
        """Of its architecture."""
        return self.best.architecture.arch_id

    @property
    def measured_ms(self) -> float:
        """`MEASURED`."""
        assert self.times is not None
        assert self.times.p10_ms is not None
        return self.times.p10_ms

    @property
    def reason(self) -> str:
        """Why it has no final score, if it should have one."""
        return "" if self.trained is None else self.trained.reason

    def metrics(self) -> dict[str, float]:
        """What was known, with what was measured beside it."""
        metrics = dict(self.best.metrics)
        if self.trained is not None:
            metrics.update(self.trained.metrics())
        if self.times is not None:
            metrics[MEASURED] = self.measured_ms
        if self.reward is not None:
            metrics[f"{'measured' if self._unscored else 'final'}_{REWARD}"] = self.reward
        return metrics

    def tested(self) -> dict[str, float]:
        """Scores on the test images; nobody but the winner may be asked for them."""
        return {} if self._unscored or self.trained is None else self.trained.metrics("test_")

    @property
    def _unscored(self) -> bool:
        return self.trained is None or bool(self.trained.reason)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `summary.json`."""
        return {
            "arch_id": self.arch_id,
            "trial": self.best.number,
            "looks": self.best.looks,
            "metrics": self.metrics(),
            "proxy": dict(self.best.learned),
            "final": None if self.trained is None else self.trained.to_dict(),
            "failed": self.reason,
            "measured": None if self.times is None else self.times.to_dict(),
            "broken": [str(constraint) for constraint in self.broken],
        }


@dataclass(frozen=True)
class Jury:
    """Judges by what was measured where that is known, and by what the search knows where not."""

    objectives: Sequence[Objective]
    constraints: Sequence[Constraint]
    target: Target | None

    def judge(self, best: Scored, times: Times | None = None, trained: Trained | None = None) -> Finalist:
        """A finalist with its broken limits and its reward."""
        finalist = Finalist(best, times, trained)
        judged, target = dict(best.metrics), self.target
        scored = trained is not None and not trained.reason
        if times is not None:
            judged[LATENCY] = finalist.measured_ms
        if trained is not None and scored:
            judged.update({name: trained.metrics()[f"final_{name}"] for name in trained.names})
            if target is not None and target.objective not in trained.names:  # a score without training
                target = dataclasses.replace(target, objective="accuracy")
        reward = None
        if target is not None and (times is not None or scored):
            reward = target.reward(judged[target.objective], judged)
        broken = tuple(violated(self.constraints, judged))
        return Finalist(best, times, trained, broken, reward, judged)

    def order(self, finalists: Sequence[Finalist]) -> list[Finalist]:
        """The best first: who breaks a limit is last, before them who could not be trained; equals keep their order."""
        return sorted(finalists, key=lambda one: (bool(one.broken), bool(one.reason), self._score(one)))

    def _score(self, finalist: Finalist) -> float:
        """The less, the better; without final scores the order is that of the search, by predicted ones."""
        if finalist.reward is not None:
            return -finalist.reward
        if finalist.trained is None or finalist.reason or len(self.objectives) > 1:
            return 0.0
        objective = self.objectives[0]
        name, sign = objective.metric, objective.sign
        if not objective.known and name not in finalist.trained.names:
            name = FinalTraining.ranks_by
            sign = 1 if FinalTraining.directions[name] == "maximize" else -1
        return -sign * finalist.judged[name]
