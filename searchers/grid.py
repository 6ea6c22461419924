"""Every network of a small space, each once."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet

import numpy as np

from search_space.space import Genotype
from searchers.base import SpaceSampler
from searchers.history import History
from searchers.problem import Problem

_MOST = 1_000_000


class Grid(SpaceSampler):
    """All genotypes in a scattered order, a function of the seed; equal networks and those not allowed are passed over.

    Genotype number i of n is (step · i + start) mod n, with a step that has no divisor in common with n and is about
    n times the golden ratio: so each comes once, and the first few lie far apart. Of a large space, the first million.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem, seed)
        self._count = self.space.num_genotypes
        rng = np.random.default_rng(seed)
        self._start = int(rng.integers(min(self._count, 2**62)))
        self._step = max(1, self._count * 618_034 // 1_000_000) + int(rng.integers(1 + min(self._count // 10, 2**62)))
        while math.gcd(self._step, self._count) != 1:
            self._step += 1
        self._passed = 0
        """So many at the beginning have been proposed or are not allowed, whatever else becomes known."""

    def propose(self, history: History, pending: AbstractSet[str], rng: np.random.Generator) -> Genotype | None:
        """The next one, or None after the last."""
        known = pending | history.tried
        for place in range(self._passed, min(self._count, _MOST)):
            genotype = self._at(place)
            if self.arch_id(genotype) not in known and self.violation(genotype) == 0:
                return genotype
            self._passed += place == self._passed
        return None

    def _at(self, place: int) -> Genotype:
        rest = (self._step * place + self._start) % self._count
        genotype = []
        for gene in self.space.genes:
            rest, option = divmod(rest, len(gene.options))
            genotype.append(option)
        return tuple(genotype)
