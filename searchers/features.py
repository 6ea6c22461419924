"""What cheap scores of some networks say of all: each score, learned from a sample as a function of the genes.

To score every candidate of a pool would take longer than to train the one that is chosen. And a score depends on the
seed of the weights; what is learned from many networks does so less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from search_space import SearchSpace
from search_space.space import Genotype
from searchers.base import SpaceSampler
from searchers.history import History
from searchers.problem import Problem, ScoredSample
from searchers.surrogate import Array, Genes, Looks, Surrogate, fit

_LEAST = 8
"""So many networks with a score make a feature."""


class GenesAndScores(Genes):
    """Genes, and for each score of a sample what it is expected to be, as a normal quantile of its rank in the sample.

    By rank, because scores are on all kinds of scales, some over orders of magnitude.
    """

    def __init__(self, space: SearchSpace, sample: ScoredSample) -> None:
        super().__init__(space)
        self._learned: list[Surrogate] = []
        for scores in sample.scores.T:
            there = np.flatnonzero(np.isfinite(scores))
            if len(there) < _LEAST or len(set(scores[there].tolist())) < 2:
                continue  # it says nothing
            rows = super().rows([sample.genotypes[index] for index in there])
            looks = Looks(_quantiles(scores[there]), np.ones(len(there)), np.ones(len(there)), 0.0)
            genes = Genes(space)
            self._learned.append(Surrogate(genes, rows, looks, fit(genes, rows, looks, noisy=True)))
        self.features = len(self._learned)

    def rows(self, genotypes: Sequence[Genotype]) -> Array:
        """[n, options + genes + features]."""
        rows = super().rows(genotypes)
        if not len(rows):
            return np.empty((0, rows.shape[1] + self.features))
        return np.column_stack([rows, *(score.unseen(rows).mean for score in self._learned)])


def _quantiles(scores: Array) -> Array:
    """Normal quantiles of the ranks; equal scores have equal ones."""
    return np.asarray(ndtri((rankdata(scores) - 0.5) / len(scores)))


def best_of(sample: ScoredSample) -> list[Genotype]:
    """The best quarter, by mean rank, of the networks of a sample that have all scores.

    Not the very best: they are much alike, and teach little if the score is wrong.
    """
    scored = np.flatnonzero(np.isfinite(sample.scores).all(axis=1))
    if not len(scored):
        return []
    ranks = rankdata(sample.scores[scored], axis=0).mean(axis=1)
    best = np.argsort(-ranks, kind="stable")[: math.ceil(len(scored) / 4)]
    return [sample.genotypes[index] for index in scored[best].tolist()]


class _AtRandom(SpaceSampler):
    """Random networks that keep the limits."""

    def propose(self, history: History, pending: object, rng: np.random.Generator) -> Genotype | None:
        return self.random_network(rng, pending)  # type: ignore[arg-type]


def sample_networks(problem: Problem, seed: int, count: int) -> list[Genotype]:
    """Up to `count` distinct random networks that keep the limits on what is known; fewer where there are no more."""
    sampler, found = _AtRandom(problem, seed), dict[str, Genotype]()
    for number in range(count):
        # Other draws than those of any proposal.
        genotype = sampler.propose(History(), found.keys(), np.random.default_rng([seed, number, 2]))
        if genotype is None:
            break
        found[sampler.arch_id(genotype)] = genotype
    return list(found.values())
