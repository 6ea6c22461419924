"""Optuna's own samplers, configured for spaces of categorical choices, and whatever `module:Class` names."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from search_space import InputError
from searchers.base import SpaceSampler
from searchers.problem import Problem


def random(problem: Problem, seed: int) -> BaseSampler:
    """Every choice uniform, independently."""
    return RandomSampler(seed=seed)


def tpe(problem: Problem, seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011)."""
    return TPESampler(seed=seed)


def gp(problem: Problem, seed: int) -> BaseSampler:
    """Gaussian process with expected improvement, or hypervolume improvement."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed, deterministic_objective=not problem.noisy)


def nsga2(problem: Problem, seed: int) -> BaseSampler:
    """Non-dominated sorting genetic algorithm (Deb et al. 2002)."""
    return NSGAIISampler(seed=seed, population_size=20)


def load(name: str) -> Callable[[Problem, int], BaseSampler]:
    """The sampler class that `module:Class` names. Raises `InputError`."""
    module_name, _, class_name = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # whatever the user's module does when it is imported
        rule = f"--searcher {name} cannot be imported: {type(error).__name__}: {error}"
        raise InputError(rule, remedy="write it as package.module:Class, and see that Python can find it") from None
    if not (inspect.isclass(found) and issubclass(found, BaseSampler)):
        raise InputError("--searcher must name a subclass of optuna.samplers.BaseSampler", name)

    def make(problem: Problem, seed: int) -> BaseSampler:
        try:
            if issubclass(found, SpaceSampler):
                ours: BaseSampler = found(problem, seed)
                return ours
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                arguments = {"seed": seed} if "seed" in inspect.signature(found).parameters else {}
                made: BaseSampler = found(**arguments)
                return made
        except InputError:
            raise
        except Exception as error:
            rule = f"--searcher {name} cannot be made: {type(error).__name__}: {error}"
            raise InputError(rule, remedy="its arguments, but `seed`, must have defaults") from None

    return make
