from __future__ import annotations

import numpy as np
import pytest
from support import TINY_SPACE, problem, propose, space

from search_space import SearchSpace, load_space
from searchers import Observation, RegularizedEvolution
from searchers.base import mutate
from searchers.history import History


def observe(searched: SearchSpace, scores: list[float], seed: int = 0) -> History:
    rng = np.random.default_rng(seed)
    genotypes = [searched.sample(rng) for _ in scores]
    return History(
        Observation(number, genotype, searched.decode(genotype).arch_id, (score,))
        for number, (genotype, score) in enumerate(zip(genotypes, scores, strict=True))
    )


def test_a_mutation_changes_one_active_gene() -> None:
    searched, rng = load_space("mobilenetv3"), np.random.default_rng(0)
    for _ in range(200):
        parent = searched.sample(rng)
        child = mutate(searched, parent, rng)
        changed = [index for index, (a, b) in enumerate(zip(parent, child, strict=True)) if a != b]
        assert len(changed) == 1
        assert changed[0] in searched.active(parent)
        searched.check(child)


def test_only_the_youngest_have_children() -> None:
    searched = load_space("mobilenetv3")
    # The first, by far the best, is too old; of the rest, only number 9 is any good.
    history = observe(searched, [9.0, *[0.0] * 8, 5.0])
    sampler = RegularizedEvolution(problem(searched), 0, population_size=5, sample_size=5)
    child = sampler.propose(history, set(), np.random.default_rng(1))
    distance = [sum(a != b for a, b in zip(child, one.genotype, strict=True)) for one in history.networks]
    assert distance[9] == 1
    assert distance[0] > 1


def test_it_proposes_nothing_known_while_there_is_anything_new() -> None:
    searched = space(TINY_SPACE)
    sampler = RegularizedEvolution(problem(searched), 0, population_size=2, sample_size=2)
    everything = {searched.decode(g).arch_id: g for g in np.ndindex(2, 2)}
    for missing in everything:
        known = [
            Observation(number, tuple(genotype), arch_id, (1.0,))
            for number, (arch_id, genotype) in enumerate(everything.items())
            if arch_id != missing
        ]
        child = sampler.propose(History(known), set(), np.random.default_rng(0))
        assert searched.decode(child).arch_id == missing


def test_it_makes_sure_of_the_best_once_it_has_settled() -> None:
    searched = load_space("mobilenetv3")
    sampler = RegularizedEvolution(problem(searched), 0, population_size=4)

    def proposed(history: History, pending: set[str]) -> bool:
        best = history.networks[7]
        child = sampler.propose(history, pending, np.random.default_rng(1))
        assert child is not None
        return searched.decode(child).arch_id == best.arch_id

    young = observe(searched, [0.0] * 7 + [5.0] + [0.0] * 4)
    settled = observe(searched, [0.0] * 7 + [5.0] + [0.0] * 5)
    assert not proposed(young, set())
    assert proposed(settled, set())
    assert not proposed(settled, {settled.networks[7].arch_id})
    settled.failed = frozenset({settled.networks[7].arch_id})
    assert not proposed(settled, set())


@pytest.mark.parametrize("noisy", [True, False])
def test_a_third_of_looks_are_further_ones_if_they_differ(noisy: bool) -> None:
    searched = load_space("mobilenetv3")
    posed = problem(searched, noisy=noisy)
    proposed = [one.arch_id for one in propose(RegularizedEvolution(posed, 0, population_size=5), posed, 75)]
    assert len(proposed) - len(set(proposed)) == (20 if noisy else 0)


@pytest.mark.parametrize("space_name", ["mobilenetv3", "mnasnet"])
def test_it_climbs_where_random_search_does_not(space_name: str) -> None:
    """The score counts genes at their last option. In 30 seeds the worst of evolution beat the best of random."""
    searched = load_space(space_name)

    def score(genotype: tuple[int, ...]) -> float:
        active = searched.active(genotype)
        return sum(genotype[i] == len(searched.genes[i].options) - 1 for i in active) / len(searched.genes)

    sampler, history = RegularizedEvolution(problem(searched), 0), History()
    for number in range(300):
        genotype = sampler.propose(history, set(), np.random.default_rng([0, number]))
        history.add(Observation(number, genotype, searched.decode(genotype).arch_id, (score(genotype),)))
    rng = np.random.default_rng(0)
    best_random = max(score(searched.sample(rng)) for _ in range(300))
    assert max(one.scores[0] for one in history.observed) > best_random + 0.1
