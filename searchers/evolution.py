"""Regularized evolution. Real et al. 2019, arXiv:1802.01548, algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import moocore
import numpy as np

from search_space.space import Genotype
from searchers.base import SpaceSampler, mutate
from searchers.history import History, Network
from searchers.problem import Problem

_SETTLED = 3


class RegularizedEvolution(SpaceSampler):
    """The last `population_size` networks are alive; the best of `sample_size` of them, drawn at random, has a child.

    A child differs from its parent in one active gene. Unlike the paper's, it is never a network that has been
    evaluated, is under way, or is not allowed: if `max_mutations` tries give no other, it mutates on until it is none.

    Of the looks after the first three populations, the share `again` are further ones, each at the network with the
    best mean by then: of many networks that were looked at once, the best was lucky rather than good.

    With several objectives there are no second looks, and "best" means that fewest fronts are before it.
    """

    looks_again = True

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population_size: int = 20,
        sample_size: int = 5,
        max_mutations: int = 50,
        again: float = 1 / 3,
    ) -> None:
        super().__init__(problem, seed)
        self.population_size = population_size
        self.sample_size = sample_size
        self.max_mutations = max_mutations
        self.again = again

    def propose(self, history: History, pending: AbstractSet[str], rng: np.random.Generator) -> Genotype | None:
        """A random network while the first population is being filled, then a child."""
        known = pending | history.tried
        if len(known - history.filtered) < self.population_size:
            return self.random_network(rng, known)
        found = history.scored  # a population of networks that were pruned has nobody to learn from
        if not found:
            return self.random_network(rng, known)
        if self._doubts(found):
            best = max(found, key=lambda network: network.fitness)
            if best.arch_id not in pending and best.arch_id not in history.failed:
                return best.genotype
        alive = found[-self.population_size :]
        rank = _ranks(found, alive)
        tournament = rng.choice(len(alive), size=min(self.sample_size, len(alive)), replace=False)
        parent = min((alive[index] for index in tournament), key=lambda network: rank[network.arch_id])
        new = self.first_new(lambda: mutate(self.space, parent.genotype, rng), known, self.max_mutations)
        if new is not None:
            return new
        child: Genotype = parent.genotype

        def mutated() -> Genotype:
            nonlocal child
            child = mutate(self.space, child, rng)
            return child

        return self.first_new(mutated, known, self.max_mutations) or self.random_network(rng, known)

    def _doubts(self, found: Sequence[Network]) -> bool:
        """Whether the best network is to be looked at again, lest it be the luckiest."""
        if not self.problem.noisy or len(self.problem.objectives) > 1:
            return False
        looks = sum(len(network.looks) for network in found)
        return looks - len(found) < self.again * (looks - _SETTLED * self.population_size)


def _ranks(found: Sequence[Network], alive: Sequence[Network]) -> dict[str, tuple[float, ...]]:
    """Of those alive, by `arch_id`: the lower the better; of equals, the later."""
    if len(found[0].scores) == 1:
        places = [(-one.scores[0],) for one in alive]
    else:
        fronts = moocore.pareto_rank(np.array([one.scores for one in found]), maximise=True)
        places = [(float(front),) for front in fronts[-len(alive) :]]
    return {
        one.arch_id: (-one.fitness[0], *place, -number)
        for number, (one, place) in enumerate(zip(alive, places, strict=True))
    }
