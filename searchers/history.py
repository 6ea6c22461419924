"""What has been seen so far, as networks instead of trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from search_space.space import Genotype

Scores = tuple[float, ...]
"""One number for each objective, always the higher the better."""


@dataclass(frozen=True)
class Observation:
    """A finished trial."""

    number: int
    genotype: Genotype
    arch_id: str
    scores: Scores
    excess: Scores = ()
    """By how much each limit that only an evaluation can tell is exceeded; kept if at most 0."""


@dataclass
class Network:
    """A network that has been looked at, perhaps several times. Scores are means over looks."""

    genotype: Genotype
    arch_id: str
    looks: list[Observation] = field(default_factory=list)

    @property
    def scores(self) -> Scores:
        """Mean scores."""
        if len(self.looks) == 1:
            return self.looks[0].scores
        return tuple(np.mean([look.scores for look in self.looks], axis=0).tolist())

    @property
    def excess(self) -> Scores:
        """Mean excess over each learned limit."""
        if len(self.looks) == 1:
            return self.looks[0].excess
        return tuple(np.mean([look.excess for look in self.looks], axis=0).tolist())

    @property
    def kept(self) -> bool:
        """Whether it keeps all limits."""
        return all(excess <= 0 for excess in self.excess)

    @property
    def fitness(self) -> tuple[float, Scores]:
        """Orders networks of a single-objective search: limits first, then the score."""
        return -sum(max(0.0, excess) for excess in self.excess), self.scores


class History:
    """All that has been observed, in order of trial number, and as networks in order of their first look."""

    def __init__(self, observed: Iterable[Observation] = ()) -> None:
        self.observed: list[Observation] = []
        self.by_id: dict[str, Network] = {}
        self.failed: frozenset[str] = frozenset()
        """The `arch_id`s of networks that could not be evaluated."""
        self.pruned: frozenset[str] = frozenset()
        """Those of networks that were stopped early. They may have been observed: with a guess instead of a score."""
        self.filtered: frozenset[str] = frozenset()
        """The `arch_id`s of networks that were proposed, and are never to be evaluated."""
        for look in observed:
            self.add(look)

    def add(self, look: Observation) -> None:
        """Take in the next observation."""
        self.observed.append(look)
        self.by_id.setdefault(look.arch_id, Network(look.genotype, look.arch_id)).looks.append(look)

    @property
    def networks(self) -> list[Network]:
        """The distinct networks."""
        return list(self.by_id.values())

    @property
    def scored(self) -> list[Network]:
        """Those that were evaluated to the end."""
        return [network for arch_id, network in self.by_id.items() if arch_id not in self.pruned]

    @property
    def tried(self) -> set[str]:
        """The `arch_id`s of all networks that were evaluated, well or not, or are not to be."""
        return {*self.failed, *self.pruned, *self.filtered, *self.by_id}

    @property
    def closed(self) -> frozenset[str]:
        """The `arch_id`s of networks that are not to be looked at again, whatever is believed of them."""
        return self.failed | self.pruned

    def upto(self, looks: int) -> History:
        """The history as it was after so many looks."""
        return self if looks == len(self.observed) else History(self.observed[:looks])

    def __len__(self) -> int:
        return len(self.observed)
