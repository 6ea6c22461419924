from __future__ import annotations

import dataclasses

import numpy as np
from support import problem, space

from search_space import Architecture
from search_space.space import Genotype
from searchers import LocalSearch, Problem
from searchers.history import History, Observation

POSED = problem()
FIRST: Genotype = (0,) * len(POSED.space.genes)


def neighbours(genotype: Genotype) -> dict[str, Genotype]:
    return {POSED.space.decode(one).arch_id: one for one in POSED.space.neighbours(genotype)}


def add(history: History, genotype: Genotype, score: float) -> None:
    history.add(Observation(len(history), genotype, POSED.space.decode(genotype).arch_id, (score,)))


def propose(history: History, posed: Problem = POSED) -> str:
    genotype = LocalSearch(posed, 0, initial=1).propose(history, set(), np.random.default_rng(len(history)))
    assert genotype is not None
    return posed.space.decode(genotype).arch_id


def test_it_moves_on_with_the_first_better_neighbour() -> None:
    history = History()
    add(history, FIRST, 0.5)
    first, second = list(neighbours(FIRST).values())[:2]
    assert propose(history) in neighbours(FIRST)
    add(history, first, 0.4)  # no better: it stays
    assert propose(history) in neighbours(FIRST).keys() - neighbours(first).keys()
    add(history, second, 0.6)  # better: it moves, though not all others were tried
    assert propose(history) in neighbours(second)


def test_from_a_local_optimum_it_goes_on_from_the_next_best() -> None:
    history = History()
    add(history, FIRST, 0.9)
    around = neighbours(FIRST)
    for number, genotype in enumerate(around.values()):
        add(history, genotype, 0.1 + 0.01 * number)
    last = list(around.values())[-1]
    assert propose(history) in neighbours(last)


def test_it_tries_all_neighbours_before_it_leaves() -> None:
    history, around = History(), neighbours(FIRST)
    add(history, FIRST, 0.9)
    for _ in around:
        proposed = propose(history)
        assert proposed in around
        assert proposed not in history.by_id
        add(history, around[proposed], 0.1)
    assert propose(history) not in around


def test_it_steps_over_what_is_not_allowed() -> None:
    def violation(architecture: Architecture) -> float:
        return float(architecture.resolution == 32)

    posed = dataclasses.replace(problem(space()), violation=violation)
    history = History()
    add(history, FIRST, 0.9)
    for _ in range(40):
        genotype = LocalSearch(posed, 0, initial=1).propose(history, set(), np.random.default_rng(len(history)))
        assert genotype is not None
        assert posed.space.decode(genotype).resolution == 16
        add(history, genotype, 0.5)
