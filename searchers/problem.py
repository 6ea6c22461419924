"""What a searcher is asked: which space, what is better, what is allowed, and what is known without evaluating."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search_space import Architecture, SearchSpace
from search_space.space import Genotype

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Objective:
    """A metric to be made as large, or as small, as possible."""

    metric: str
    direction: Direction
    known: bool = False
    """Whether it is known before a network is evaluated, as its `macs` are."""

    @property
    def sign(self) -> int:
        """Times this, more is better."""
        return 1 if self.direction == "maximize" else -1


@dataclass(frozen=True, eq=False)
class ScoredSample:
    """Random networks that keep the limits, each with scores that needed no evaluation."""

    names: tuple[str, ...]
    """Of the scores."""
    genotypes: tuple[Genotype, ...]
    scores: NDArray[np.float64]
    """[networks, names]; more is meant to be better, NaN where a network has none."""

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.genotypes), len(self.names)):
            raise ValueError(f"scores must be {len(self.genotypes)} x {len(self.names)}, not {self.scores.shape}")


@dataclass(frozen=True, eq=False)
class Problem:
    """A search problem, as searchers see it."""

    space: SearchSpace
    objectives: tuple[Objective, ...] = (Objective("accuracy", "maximize"),)
    known: Callable[[Architecture], Mapping[str, float]] = lambda architecture: {}
    """Metrics of a network that need no evaluation."""
    violation: Callable[[Architecture], float] = lambda architecture: 0.0
    """By how much a network breaks the limits on what is known: 0 if it is allowed, more the further it is off."""
    learned_limits: tuple[str, ...] = ()
    """Names of the limits that only an evaluation can tell, as Optuna's trials carry them."""
    noisy: bool = True
    """Whether a second evaluation of a network, with another seed, gives another score."""
    start: tuple[Genotype, ...] = ()
    """Networks to begin with."""
    sample: ScoredSample | None = None
    """What cheap scores say of some networks, as a hint for searchers that learn."""
