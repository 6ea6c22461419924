"""Several evaluators at once, each network scored by all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from evaluators.base import Direction, EvaluationFailed, Evaluator, Report, derive_seed
from search_space import Architecture


class Several(Evaluator):
    """Metrics `NAME/METRIC` of each evaluator.

    Each has a seed of its own, so that what two of them have in common is not their luck. There is a report before the
    first and one after each, so that whoever listens knows how long it took.
    """

    directions: ClassVar[Mapping[str, Direction]] = {}

    def __init__(self, evaluators: Mapping[str, Evaluator]) -> None:
        self.evaluators = dict(evaluators)

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """The last report has the metrics of all."""
        metrics: dict[str, float] = {}
        steps = len(self.evaluators) + 1
        yield Report(1, steps, {})
        for step, (name, evaluator) in enumerate(self.evaluators.items(), start=2):
            try:
                last = deque(evaluator.evaluate(architecture, seed=derive_seed(seed, name)), maxlen=1)
            except EvaluationFailed as failure:
                raise type(failure)(f"{name}: {failure}") from None
            metrics.update({f"{name}/{metric}": value for metric, value in last.pop().metrics.items()})
            yield Report(step, steps, dict(metrics))

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
