"""Regularized evolution. Real et al. 2019, arXiv:1802.01548, algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search_space import SearchSpace
from search_space.space import Genotype
from searchers.base import Observation, SpaceSampler


class RegularizedEvolution(SpaceSampler):
    """The last `population_size` networks are alive; the best of `sample_size` of them, drawn at random, has a child.

    A child differs from its parent in one active gene. Unlike the paper's, it is never a network that has been
    evaluated or is under way: it mutates on until it is new (at most `max_mutations` times).
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        *,
        population_size: int = 20,
        sample_size: int = 5,
        max_mutations: int = 100,
    ) -> None:
        super().__init__(space, seed)
        self.population_size = population_size
        self.sample_size = sample_size
        self.max_mutations = max_mutations

    def propose(self, observed: Sequence[Observation], pending: set[str], rng: np.random.Generator) -> Genotype:
        """A random network while the first population is being filled, then a child."""
        if len(observed) + len(pending) < self.population_size or not observed:
            return self.space.sample(rng)
        population = observed[-self.population_size :]
        tournament = rng.choice(len(population), size=min(self.sample_size, len(population)), replace=False)
        parent = max((population[index] for index in tournament), key=lambda one: (one.score, one.number))
        child: Genotype = parent.genotype
        known = pending | {one.arch_id for one in observed}
        for _ in range(self.max_mutations):
            child = mutate(self.space, child, rng)
            if self.space.decode(child).arch_id not in known:
                break
        return child


def mutate(space: SearchSpace, genotype: Genotype, rng: np.random.Generator) -> Genotype:
    """Change one active gene, chosen uniformly, to another of its options, chosen uniformly."""
    active = space.active(genotype)
    if not active:
        return genotype
    index = active[rng.integers(len(active))]
    step = 1 + int(rng.integers(len(space.genes[index].options) - 1))
    option = (genotype[index] + step) % len(space.genes[index].options)
    return (*genotype[:index], option, *genotype[index + 1 :])
