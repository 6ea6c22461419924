"""The range of cost that a search space can reach."""

from __future__ import annotations

from collections.abc import Callable

from search_space.architecture import Architecture
from search_space.cost import count_cost
from search_space.space import Genotype, SearchSpace

Measure = Callable[[Architecture], float]


def reach(space: SearchSpace, measure: Measure) -> tuple[float, float]:
    """The least and the greatest `measure` (a cost of one architecture) found by coordinate descent over the genes.

    Exact where the best option of a gene does not depend on the other genes, as for counted cost in spaces of
    MBConv-like blocks; else a range that the space is sure to reach, if not the widest.
    """
    least = _descend(space, measure)
    greatest = -_descend(space, lambda architecture: -measure(architecture))
    return least, greatest


def cost_range(space: SearchSpace, metric: str) -> tuple[float, float]:
    """`reach` for a counted cost by name: `params`, `macs`, `activations` or `memory_mb`."""
    return reach(space, lambda architecture: count_cost(architecture).metrics()[metric])


def _descend(space: SearchSpace, measure: Measure) -> float:
    """Minimise `measure`, gene by gene, from the better of the two extreme genotypes, until nothing changes."""
    low: Genotype = tuple(0 for _ in space.genes)
    high: Genotype = tuple(len(gene.options) - 1 for gene in space.genes)
    best, genotype = min((measure(space.decode(start)), start) for start in (low, high))
    improved = True
    while improved:
        improved = False
        for index in space.active(genotype):
            for option in range(len(space.genes[index].options)):
                candidate = (*genotype[:index], option, *genotype[index + 1 :])
                cost = measure(space.decode(candidate))
                if cost < best:
                    best, genotype, improved = cost, candidate, True
    return best
