"""NetAdapt on a space of twelve networks, whose costs and scores are written out."""

from __future__ import annotations

import numpy as np
import pytest
from support import problem, propose, space

from search_space import Architecture
from searchers import NetAdapt, Problem
from searchers.history import History, Observation

TEXT = """\
schema_version: 1
name: twelve
resolution: 16
stem: {type: conv, out_channels: 8, stride: 2, kernel_size: 3}
stages:
- {type: mbconv, out_channels: {choice: [8, 16]}, stride: 2, kernel_size: {choice: [3, 5, 7]},
   expand_ratio: {choice: [1, 2]}}
head: {type: pooled, conv_channels: 16}
"""
Key = tuple[int, int, int]
"""Output channels, kernel size, expand ratio."""
SCORES: dict[Key, float] = {
    (16, 7, 2): 0.90,  # costs 42, where it starts
    (8, 7, 2): 0.80,  # -0.10 for 10 less
    (16, 5, 2): 0.88,  # -0.02 for 4 less: the best price
    (16, 7, 1): 0.85,  # -0.05 for 4 less
    (8, 5, 2): 0.84,  # then -0.04 for 10 less
    (16, 3, 2): 0.80,  # -0.08 for 4 less
    (16, 5, 1): 0.87,  # -0.01 for 4 less: the best price
    (8, 5, 1): 0.86,  # then -0.01 for 10 less: the best price
    (16, 3, 1): 0.50,  # -0.37 for 4 less
}


def key(architecture: Architecture) -> Key:
    (block,) = architecture.blocks
    return block.out_channels, block.kernel_size, block.expand_ratio  # type: ignore[attr-defined]


def cost(architecture: Architecture) -> float:
    channels, kernel, expand = key(architecture)
    return 10 * channels / 8 + 2 * kernel + 4 * (expand - 1) + 4


def twelve(limit: float | None, **more: object) -> Problem:
    return Problem(
        space(TEXT),
        known=lambda one: {"macs": cost(one)},
        violation=lambda one: 0.0 if limit is None else max(0.0, cost(one) / limit - 1),
        **more,  # type: ignore[arg-type]
    )


def course(posed: Problem, cut: float = 0.05) -> list[Key]:
    def metrics(posed: Problem, architecture: Architecture, look: int) -> dict[str, float]:
        return {"accuracy": SCORES.get(key(architecture), 0.0)}

    return [key(one) for one in propose(NetAdapt(posed, 0, cut=cut), posed, 50, metrics_of=metrics)]


def test_each_step_keeps_the_best_price() -> None:
    found = course(twelve(limit=30))
    assert found[0] == (16, 7, 2)
    assert set(found[1:4]) == {(8, 7, 2), (16, 5, 2), (16, 7, 1)}
    assert set(found[4:7]) == {(8, 5, 2), (16, 3, 2), (16, 5, 1)}
    assert set(found[7:]) == {(8, 5, 1), (16, 3, 1)}  # costs 24 and 30: it keeps the one, and ends


def test_it_begins_with_the_network_that_it_is_given() -> None:
    searched = space(TEXT)
    start = next(g for g in np.ndindex(2, 3, 2) if key(searched.decode(g)) == (16, 5, 1))
    found = course(twelve(limit=30, start=(start,)))
    assert found == [(16, 5, 1), *found[1:]]
    assert set(found[1:]) == {(8, 5, 1), (16, 3, 1)}


def test_a_cut_is_at_least_as_large_as_asked_for() -> None:
    # A tenth of 42: neither a smaller kernel (4) nor a smaller expansion (4) is enough by one step.
    found = course(twelve(limit=38), cut=0.1)
    costs = {key(one): cost(one) for one in map(space(TEXT).decode, np.ndindex(2, 3, 2))}
    assert set(found[1:]) == {(8, 7, 2), (16, 3, 2)}
    assert all(costs[found[0]] - costs[one] >= 4.2 for one in found[1:])


def test_without_a_limit_it_goes_down_to_the_cheapest() -> None:
    found = course(twelve(limit=None))
    assert found[-1] == (8, 3, 1)


def test_a_network_within_the_limit_need_not_be_cut() -> None:
    assert course(twelve(limit=100))[0] == (16, 7, 2)


def test_a_step_goes_on_without_what_failed() -> None:
    posed = twelve(limit=30)
    sampler, history = NetAdapt(posed, 0), History()
    failed: set[str] = set()
    for number in range(50):
        genotype = sampler.propose(history, set(), np.random.default_rng(0))
        if genotype is None:
            break
        architecture = posed.space.decode(genotype)
        if key(architecture) in ((16, 5, 2), (8, 7, 2)):
            failed.add(architecture.arch_id)
            history.failed = frozenset(failed)
        else:
            score = SCORES.get(key(architecture), 0.0)
            history.add(Observation(number, genotype, architecture.arch_id, (score,)))
    assert len(failed) == 2
    assert min(cost(posed.space.decode(one.genotype)) for one in history.networks) <= 30


def test_nothing_is_proposed_while_a_step_is_under_way() -> None:
    posed = twelve(limit=30)
    sampler, history, pending = NetAdapt(posed, 0), History(), set()
    first = sampler.propose(history, pending, np.random.default_rng(0))
    assert first is not None
    first_id = posed.space.decode(first).arch_id
    assert sampler.propose(history, {first_id}, np.random.default_rng(0)) is None
    history.add(Observation(0, first, first_id, (0.9,)))
    for _ in range(3):
        way = sampler.propose(history, pending, np.random.default_rng(0))
        assert way is not None
        pending.add(posed.space.decode(way).arch_id)
    assert len(pending) == 3
    assert sampler.propose(history, pending, np.random.default_rng(0)) is None


@pytest.mark.parametrize("cut", [0.02, 0.1])
def test_real_costs_fall_by_the_cut_from_step_to_step(cut: float) -> None:
    """Of a real space, a step's networks are cheaper than one of those before by at least the cut."""
    posed = problem(constraints=["macs<=100K"])
    found = propose(NetAdapt(posed, 0, cut=cut), posed, 300)
    macs = [posed.known(one)["macs"] for one in found]
    assert macs[0] == max(macs)
    for number in range(1, len(macs)):
        assert any(before - macs[number] >= cut * macs[0] for before in macs[:number])
    assert macs[-1] <= 100_000 or min(macs) <= 100_000
