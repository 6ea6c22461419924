"""Local search: walk from network to better neighbour. White et al. 2020, arXiv:2005.02960."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import moocore
import numpy as np

from search_space.space import Genotype
from searchers.base import SpaceSampler
from searchers.history import History, Network
from searchers.problem import Problem

_KEPT = 256


class LocalSearch(SpaceSampler):
    """From the best network so far, tries its neighbours in random order, and moves on with the first better one.

    A neighbour differs in one active gene. When all neighbours of the best have been tried, it goes on from the next
    best that has untried ones, so that it neither stops at a local optimum nor forgets what it knows. With several
    objectives it walks from a random network of the front.
    """

    def __init__(self, problem: Problem, seed: int, *, initial: int = 10) -> None:
        super().__init__(problem, seed)
        self.initial = initial
        self._neighbours: dict[Genotype, list[tuple[Genotype, str]]] = {}

    def propose(self, history: History, pending: AbstractSet[str], rng: np.random.Generator) -> Genotype | None:
        """A random network at first, then an untried neighbour of the best."""
        known = pending | history.tried
        if len(known - history.filtered) < self.initial or not len(history):
            return self.random_network(rng, known)
        for network in _best_first(history.networks, rng):
            untried = [genotype for genotype, arch_id in self._allowed(network.genotype) if arch_id not in known]
            if untried:
                return untried[rng.integers(len(untried))]
        return self.random_network(rng, known)

    def _allowed(self, genotype: Genotype) -> list[tuple[Genotype, str]]:
        """The neighbours that keep the limits, with their `arch_id`s."""
        if genotype not in self._neighbours:
            if len(self._neighbours) >= _KEPT:
                self._neighbours.clear()
            self._neighbours[genotype] = [
                (neighbour, self.arch_id(neighbour))
                for neighbour in self.space.neighbours(genotype)
                if self.violation(neighbour) == 0
            ]
        return self._neighbours[genotype]


def _best_first(found: Sequence[Network], rng: np.random.Generator) -> list[Network]:
    if len(found[0].scores) == 1:
        return sorted(found, key=lambda network: network.fitness, reverse=True)
    order = rng.permutation(len(found))
    fronts = moocore.pareto_rank(np.array([network.scores for network in found]), maximise=True)
    return [found[i] for i in sorted(order, key=lambda i: (-found[i].fitness[0], fronts[i]))]
