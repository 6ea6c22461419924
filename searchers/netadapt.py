"""NetAdapt: cut a network down step by step. Yang et al. 2018, arXiv:1804.03230; used for MobileNetV3."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from search_space.space import Genotype
from searchers.base import SpaceSampler
from searchers.history import History, Network
from searchers.problem import Problem

RESOURCES = ("latency_ms", "macs")
"""What is cut: the first of these that is known."""


class NetAdapt(SpaceSampler):
    """Each step evaluates every way to cut the cost of the network by at least `cut`, and keeps one of them.

    Kept is the one with the most accuracy per cost, Δscore / |Δcost|, as MobileNetV3 chose (section 5.2). `cut` is a
    share of the first network's cost; the first network is the first of `problem.start`, or else the costliest that
    changing gene after gene leads to. A way to cut is a gene brought to another option; where that does not save
    enough, genes of the same field further on follow. It ends when a network keeps all limits, or nothing can be cut.
    """

    several_objectives = False
    crosses_limits = True

    def __init__(self, problem: Problem, seed: int, *, cut: float = 0.05) -> None:
        super().__init__(problem, seed)
        self.cut = cut
        self._ways: dict[Genotype, list[Genotype]] = {}
        self._costs: dict[Genotype, float] = {}
        self._first = problem.start[0] if problem.start else None

    def propose(self, history: History, pending: AbstractSet[str], rng: np.random.Generator) -> Genotype | None:
        """The first network, or a way to cut the present one that was not tried; None when there is none."""
        if self._first is None:
            self._first = self._costliest()
        found = history.by_id
        current = self._first
        if self.arch_id(current) not in found:
            return None if self.arch_id(current) in pending | history.failed else current
        while self.violation(current) > 0 or not self._limited():
            ways = self._cuts(current)
            untried = [way for way in ways if self.arch_id(way) not in history.tried]
            if untried:
                return next((way for way in untried if self.arch_id(way) not in pending), None)
            evaluated = [way for way in ways if self.arch_id(way) in found]
            if not evaluated:
                return None
            current = self._best_of(current, evaluated, found)
        return None

    def _limited(self) -> bool:
        """Whether there is a limit on what is known, which the first network breaks."""
        assert self._first is not None
        return self.violation(self._first) > 0

    def _best_of(self, current: Genotype, ways: Sequence[Genotype], found: dict[str, Network]) -> Genotype:
        before, cost = found[self.arch_id(current)].scores[0], self._cost(current)

        def worth(way: Genotype) -> tuple[float, float]:
            network = found[self.arch_id(way)]
            return network.fitness[0], (network.scores[0] - before) / (cost - self._cost(way))

        return max(ways, key=worth)

    def _cuts(self, genotype: Genotype) -> list[Genotype]:
        """Distinct networks, each cheaper by at least the cut; smaller cuts if there is none."""
        if genotype not in self._ways:
            assert self._first is not None
            wanted = self.cut * self._cost(self._first)
            ways: dict[str, Genotype] = {}
            while not ways and wanted > 1e-4 * self._cost(self._first):
                for gene in self.space.active(genotype):
                    way = self._cut_by(genotype, gene, wanted)
                    if way is not None:
                        ways.setdefault(self.arch_id(way), way)
                wanted /= 2
            self._ways[genotype] = list(ways.values())
        return self._ways[genotype]

    def _cut_by(self, genotype: Genotype, first: int, wanted: float) -> Genotype | None:
        """Bring a gene, and if need be later ones of its field, to the option that saves least but enough."""
        goal = self._cost(genotype) - wanted
        field = self.space.genes[first].name.rpartition(".")[2]
        for gene in self.space.active(genotype):
            if gene < first or self.space.genes[gene].name.rpartition(".")[2] != field:
                continue
            options = [
                (*genotype[:gene], option, *genotype[gene + 1 :])
                for option in range(len(self.space.genes[gene].options))
            ]
            enough = [option for option in options if self._cost(option) <= goal]
            if enough:
                return max(enough, key=self._cost)
            genotype = min(options, key=self._cost)
        return None

    def _costliest(self) -> Genotype:
        """Where always changing the gene to its costliest option leads."""
        genotype: Genotype = (0,) * len(self.space.genes)
        for _ in range(2):  # the second round for genes that were out of use in the first
            for gene, options in enumerate(gene.options for gene in self.space.genes):
                genotype = max(
                    ((*genotype[:gene], option, *genotype[gene + 1 :]) for option in range(len(options))),
                    key=self._cost,
                )
        return genotype

    def _cost(self, genotype: Genotype) -> float:
        if genotype not in self._costs:
            metrics = self.problem.known(self.space.decode(genotype))
            self._costs[genotype] = metrics[next(name for name in RESOURCES if name in metrics)]
        return self._costs[genotype]
