"""What the predictor-guided searcher believes: a model for each objective, or limit, that only evaluations tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from searchers.history import Network, Observation, Scores
from searchers.problem import Problem
from searchers.surrogate import Array, Genes, Hyperparameters, Looks, Surrogate, fit

_MOST_FITTED = 200
_MOST_MODELLED = 250
_MARGIN = 0.5
"""In interquartile ranges: of networks whose gap to the best is small beside this, the gap counts less and less."""


@dataclass(frozen=True)
class LogGap:
    """Scores on the scale −log(gap to the best so far + margin), where good networks are told apart better.

    Gaussian processes take differences as equally likely everywhere, but scores crowd at the top and have a long tail
    at the bottom.
    """

    top: float
    margin: float

    @classmethod
    def of(cls, scores: Array) -> LogGap:
        """The scale for these scores."""
        low, high = np.quantile(scores, [0.25, 0.75])
        return cls(float(scores.max()), _MARGIN * float(high - low) or 1.0)

    def there(self, scores: Array) -> Array:
        """Onto the scale."""
        return -np.log(np.maximum(self.top - scores, 0.0) + self.margin)

    def back(self, values: Array) -> Array:
        """From the scale to scores."""
        return np.asarray(self.top + self.margin - np.exp(-values))

    def slope(self, scores: Array) -> Array:
        """By how much the scale magnifies a small difference."""
        return np.asarray(1.0 / (np.maximum(self.top - scores, 0.0) + self.margin))


@dataclass(frozen=True)
class Learned:
    """One quantity that evaluations tell: its scale, and its model."""

    scale: LogGap | None
    surrogate: Surrogate


class Beliefs:
    """Models of all learned objectives and limits, after the looks given.

    `objectives` and `limits` have a `Learned` each, or None for an objective that is known without evaluating.
    """

    def __init__(
        self, problem: Problem, genes: Genes, found: Sequence[Network], parameters: Sequence[Hyperparameters]
    ) -> None:
        self.networks = informative(found, _MOST_MODELLED)
        self.rows = genes.rows([network.genotype for network in self.networks])
        self.scores = np.array([network.scores for network in self.networks])
        given = iter(parameters)
        self.objectives = [
            None if objective.known else self._learn(genes, index, next(given), limit=False)
            for index, objective in enumerate(problem.objectives)
        ]
        self.limits = [
            self._learn(genes, index, next(given), limit=True) for index in range(len(problem.learned_limits))
        ]

    def means(self) -> Array:
        """[networks, objectives]: believed scores of the networks that were looked at, each on its scale."""
        columns = [
            self.scores[:, index] if learned is None else learned.surrogate.seen.mean
            for index, learned in enumerate(self.objectives)
        ]
        return np.stack(columns, axis=1)

    def _learn(self, genes: Genes, index: int, parameters: Hyperparameters, *, limit: bool) -> Learned:
        scale, looks = scaled_looks(self.networks, index, limit=limit)
        return Learned(scale, Surrogate(genes, self.rows, looks, parameters))


def scaled_looks(found: Sequence[Network], index: int, *, limit: bool) -> tuple[LogGap | None, Looks]:
    """What was seen of one objective, on its scale, or of one learned limit."""

    def value(look: Observation) -> float:
        return (look.excess if limit else look.scores)[index]

    mean = np.array([(network.excess if limit else network.scores)[index] for network in found])
    count = np.array([float(len(network.looks)) for network in found])
    scatter = np.array(
        [sum((value(look) - centre) ** 2 for look in n.looks) for n, centre in zip(found, mean, strict=True)]
    )
    if limit:
        return None, Looks(mean, count, np.ones_like(mean), float(scatter.sum()))
    scale = LogGap.of(mean)
    slope = scale.slope(mean)
    # Looks are about equally noisy on the scores' own scale, so on the other one they are not.
    noise = (slope / slope.max()) ** 2
    return scale, Looks(scale.there(mean), count, noise, float(scatter.sum()) * float(slope.max()) ** 2)


def fit_all(problem: Problem, genes: Genes, found: Sequence[Network]) -> list[Hyperparameters]:
    """Hyperparameters for each learned objective, then each learned limit."""
    found = informative(found, _MOST_FITTED)
    rows = genes.rows([network.genotype for network in found])
    columns = [(index, False) for index, objective in enumerate(problem.objectives) if not objective.known]
    columns += [(index, True) for index in range(len(problem.learned_limits))]
    return [
        fit(genes, rows, scaled_looks(found, index, limit=limit)[1], noisy=problem.noisy) for index, limit in columns
    ]


def informative(found: Sequence[Network], most: int) -> Sequence[Network]:
    """At most so many networks, in their order: the better half, and of the others the latest."""
    if len(found) <= most:
        return found
    ranks = front_ranks([network.scores for network in found])
    best = set(np.lexsort((-np.arange(len(found)), ranks))[: most // 2].tolist())
    for index in reversed(range(len(found))):
        if len(best) == most:
            break
        best.add(index)
    return [found[index] for index in sorted(best)]


def front_ranks(scores: Sequence[Scores] | Array) -> Array:
    """0 for the best: ranks of single scores, or numbers of Pareto fronts."""
    values = np.asarray(scores)
    if values.shape[1] > 1:
        return np.asarray(moocore.pareto_rank(values, maximise=True), dtype=np.float64)
    return np.argsort(np.argsort(-values[:, 0], kind="stable")).astype(np.float64)
