"""Several evaluators at once, each network scored by all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from evaluators.base import Direction, EvaluationFailed, Evaluator, NoVerdict, Report, derive_seed
from evaluators.batch_store import BatchStore
from evaluators.on_images import ImageEvaluator
from search_space import Architecture
from search_space.errors import one_line


class Score(NamedTuple):
    """Where one score of `Several` comes from."""

    evaluator: str
    step: int
    """Of all; the report of this step is the first that has the score."""


class Several(Evaluator):
    """Metrics `SCORE/METRIC`, a score being the name of an evaluator; after step 2 of more, its name and `@2`.

    Each evaluator has a seed of its own, so that what two of them have in common is not their luck. There is a report
    before the first and one for each of its steps, so that whoever listens knows how far it is, and how long it took.
    `lacking` says of a network, by its `arch_id`, which evaluators are to score it, all by default; the steps of others
    are passed over.
    """

    directions: ClassVar[Mapping[str, Direction]] = {}

    def __init__(
        self, evaluators: Mapping[str, Evaluator], lacking: Mapping[str, Collection[str]] | None = None
    ) -> None:
        self.evaluators, self._lacking = dict(evaluators), dict(lacking or {})
        store = BatchStore()  # many of them see the same images
        for evaluator in self.evaluators.values():
            if isinstance(evaluator, ImageEvaluator):
                evaluator.store = store

    @property
    def steps(self) -> int:
        """Those of all evaluators, and the one before."""
        return 1 + sum(evaluator.steps for evaluator in self.evaluators.values())

    @property
    def scores(self) -> dict[str, Score]:
        """Each score in turn."""
        found, before = {}, 1
        for name, evaluator in self.evaluators.items():
            for step in (*evaluator.rungs, evaluator.steps):
                found[name if step == evaluator.steps else f"{name}@{step}"] = Score(name, before + step)
            before += evaluator.steps
        return found

    def lacking(self, arch_id: str) -> Collection[str]:
        """The evaluators that are to score a network."""
        return self._lacking.get(arch_id, self.evaluators)

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """The last report has the metrics of all.

        An evaluator that fails does not keep the others from their turn: the evaluation fails when all have had it.
        """
        metrics: dict[str, float] = {}
        failures: list[str] = []
        kind = EvaluationFailed
        names = {score.step: name for name, score in self.scores.items()}
        before, total = 1, self.steps
        lacking = self.lacking(architecture.arch_id)
        yield Report(before, total, {})
        for name, evaluator in self.evaluators.items():
            if name not in lacking:
                before += evaluator.steps
                continue
            try:
                for report in evaluator.evaluate(architecture, seed=derive_seed(seed, name)):
                    step = before + report.step
                    if step in names:
                        metrics.update({f"{names[step]}/{metric}": value for metric, value in report.metrics.items()})
                    yield Report(step, total, dict(metrics))
            except Exception as error:
                final = isinstance(error, EvaluationFailed)
                failures.append(one_line(f"{name}: {error}" if final else f"{name}: {type(error).__name__}: {error}"))
                if not final or isinstance(error, NoVerdict):
                    kind = NoVerdict
                yield Report(before + evaluator.steps, total, dict(metrics))
            before += evaluator.steps
        if failures:
            raise kind("\n".join(failures))

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


def reasons(text: str) -> dict[str, str]:
    """Evaluator -> why it failed, of the text of a failure of `Several`."""
    lines = (line.partition(": ") for line in text.splitlines())
    return {name: reason for name, found, reason in lines if found}
