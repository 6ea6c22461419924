"""What to try next: Optuna samplers over search spaces, behind one registry."""

from __future__ import annotations

from collections.abc import Callable

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from search_space import InputError, SearchSpace
from search_space.errors import did_you_mean
from searchers.base import Observation, SpaceSampler, distributions
from searchers.evolution import RegularizedEvolution
from searchers.per_trial import PerTrial

SEARCHERS: dict[str, Callable[[SearchSpace, int], BaseSampler]] = {
    "evolution": RegularizedEvolution,
    "random": lambda space, seed: PerTrial(lambda own: RandomSampler(seed=own), seed),
    "tpe": lambda space, seed: PerTrial(lambda own: TPESampler(seed=own), seed),
}
"""Name -> maker of a sampler for a space and a seed. A new searcher is a line here and in the conformance suite."""

DEFAULT = "evolution"


def make_sampler(name: str, space: SearchSpace, seed: int) -> BaseSampler:
    """The sampler of this name; raises `InputError` for an unknown one."""
    if name not in SEARCHERS:
        raise InputError("--searcher must be a known name", name, remedy=did_you_mean(name, SEARCHERS))
    return SEARCHERS[name](space, seed)


__all__ = [
    "DEFAULT",
    "SEARCHERS",
    "Observation",
    "PerTrial",
    "RegularizedEvolution",
    "SpaceSampler",
    "distributions",
    "make_sampler",
]
