"""Made-up problems on a real space, whose best networks are known."""

from __future__ import annotations

import functools

import numpy as np

from search_space import Architecture, SearchSpace, load_space
from search_space.space import Genotype
from searchers import Objective, Problem, SpaceSampler
from searchers.history import History, Observation

NOISE = 0.01


@functools.cache
def searched() -> SearchSpace:
    return load_space("mobilenetv3")


@functools.cache
def worths() -> list[np.ndarray]:  # type: ignore[type-arg]
    """What each option of each gene is worth; some genes matter much, most do not."""
    rng = np.random.default_rng(7)
    weights = rng.exponential(1.0, len(searched().genes)) ** 2
    return [
        weight / weights.sum() * rng.permutation(np.linspace(0, 1, len(gene.options)))
        for weight, gene in zip(weights, searched().genes, strict=True)
    ]


def smooth(genotype: Genotype) -> float:
    """From 0 to about 1: what the genes in use are worth."""
    return float(sum(worths()[gene][genotype[gene]] for gene in searched().active(genotype)))


def size(architecture: Architecture) -> float:
    return float(sum(block.out_channels * getattr(block, "expand_ratio", 1) for block in architecture.blocks)) / 10_000


def single(*, noisy: bool = True) -> Problem:
    return Problem(searched(), noisy=noisy)


def double() -> Problem:
    objectives = (Objective("accuracy", "maximize"), Objective("size", "minimize", known=True))
    return Problem(searched(), objectives, known=lambda one: {"size": size(one)})


def search(sampler: SpaceSampler, budget: int, seed: int = 0) -> History:
    """Propose and observe, one network after the other."""
    rng, history = np.random.default_rng([seed, 1]), History()
    for number in range(budget):
        genotype = sampler.propose(history, set(), np.random.default_rng([seed, number]))
        assert genotype is not None
        architecture = searched().decode(genotype)
        scores = (smooth(genotype) + NOISE * rng.standard_normal(), -size(architecture))
        history.add(Observation(number, genotype, architecture.arch_id, scores[: len(sampler.problem.objectives)]))
    return history


def at_random(budget: int, seed: int = 0) -> list[Genotype]:
    rng = np.random.default_rng([seed, 2])
    return [searched().sample(rng) for _ in range(budget)]
