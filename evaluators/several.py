"""Several evaluators at once, each network scored by all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from evaluators.base import Direction, EvaluationFailed, Evaluator, Report, derive_seed
from search_space import Architecture


class Several(Evaluator):
    """Metrics `SCORE/METRIC`, a score being the name of an evaluator; after step 2 of more, its name and `@2`.

    Each evaluator has a seed of its own, so that what two of them have in common is not their luck. There is a report
    before the first and one for each of `scores`, so that whoever listens knows how long it took.
    """

    directions: ClassVar[Mapping[str, Direction]] = {}

    def __init__(self, evaluators: Mapping[str, Evaluator]) -> None:
        self.evaluators = dict(evaluators)

    @property
    def scores(self) -> dict[str, str]:
        """Each score in turn, and the name of its evaluator."""
        return {
            at(name, step, evaluator.steps): name
            for name, evaluator in self.evaluators.items()
            for step in (*evaluator.rungs, evaluator.steps)
        }

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """The last report has the metrics of all."""
        metrics: dict[str, float] = {}
        steps = 1 + len(self.scores)
        yield Report(1, steps, {})
        step = 1
        for name, evaluator in self.evaluators.items():
            try:
                for report in evaluator.evaluate(architecture, seed=derive_seed(seed, name)):
                    if report.step in evaluator.rungs or report.step == report.total_steps:
                        step += 1
                        score = at(name, report.step, report.total_steps)
                        metrics.update({f"{score}/{metric}": value for metric, value in report.metrics.items()})
                        yield Report(step, steps, dict(metrics))
            except EvaluationFailed as failure:
                raise type(failure)(f"{name}: {failure}") from None

    def use_device(self, device: str) -> None:
        """All compute on this device."""
        for evaluator in self.evaluators.values():
            evaluator.use_device(device)

    def describe(self) -> dict[str, Any]:
        """What each says of itself."""
        return {
            "evaluator": "several",
            **{name: evaluator.describe() for name, evaluator in self.evaluators.items()},
        }


def at(name: str, step: int, steps: int) -> str:
    """What the score of the evaluator `name` is called that is known after `step` of `steps`."""
    return name if step == steps else f"{name}@{step}"
