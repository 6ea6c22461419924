"""What to try next: Optuna samplers over search spaces, behind one registry."""

from __future__ import annotations

from collections.abc import Callable

from optuna.samplers import BaseSampler

from search_space import InputError
from search_space.errors import did_you_mean
from searchers import external
from searchers.base import NothingNew, SpaceSampler, distributions
from searchers.evolution import RegularizedEvolution
from searchers.features import sample_networks
from searchers.grid import Grid
from searchers.history import Observation, Scores
from searchers.local import LocalSearch
from searchers.netadapt import NetAdapt
from searchers.predictor import PredictorGuided
from searchers.problem import Objective, Problem, ScoredSample
from searchers.reinforce import Reinforce

SEARCHERS: dict[str, Callable[[Problem, int], BaseSampler]] = {
    "predictor": PredictorGuided,
    "evolution": RegularizedEvolution,
    "local": LocalSearch,
    "reinforce": Reinforce,
    "netadapt": NetAdapt,
    "tpe": external.tpe,
    "gp": external.gp,
    "nsga2": external.nsga2,
    "random": external.random,
    "grid": Grid,
}
"""Name -> maker of a sampler for a problem and a seed. A new searcher is a line here and in the conformance suite."""

DEFAULT = "predictor"


def check_name(name: str) -> None:
    """Raise `InputError` unless it is a known name, or has the form of `module:Class`."""
    if name not in SEARCHERS and ":" not in name:
        raise InputError("--searcher must be a known name, or module:Class", name, remedy=did_you_mean(name, SEARCHERS))


def make_sampler(name: str, problem: Problem, seed: int) -> BaseSampler:
    """The sampler of this name, or the class that `module:Class` names. Raises `InputError` for an unknown one."""
    check_name(name)
    make = SEARCHERS[name] if name in SEARCHERS else external.load(name)
    return make(problem, seed)


__all__ = [
    "DEFAULT",
    "SEARCHERS",
    "Grid",
    "LocalSearch",
    "NetAdapt",
    "NothingNew",
    "Objective",
    "Observation",
    "PredictorGuided",
    "Problem",
    "RegularizedEvolution",
    "Reinforce",
    "ScoredSample",
    "Scores",
    "SpaceSampler",
    "check_name",
    "distributions",
    "make_sampler",
    "sample_networks",
]
