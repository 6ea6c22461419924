"""How far a search is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from nas.scored import Scored

_ROUNDING = 1e-6


@dataclass
class State:
    """How far a search is."""

    budget: int
    """How many trainings may be spent."""
    ranked_by: tuple[str, ...] = ()
    """The metrics that order networks, the first one first."""
    counts: Counter[str] = field(default_factory=Counter)
    """Trials `complete`, `pruned` and `failed`; of those complete, `again` were further looks at a network; proposals
    `infeasible`, `duplicate` and `filtered`."""
    spent: float = 0.0
    """Full-training equivalents: a trial that was pruned counts as the share of a training that it had, others as 1."""
    spent_before: float = 0.0
    """Of these, in earlier sessions."""
    front: list[Scored] = field(default_factory=list)
    """The best network so far; with several objectives, the Pareto front, in order of the first objective."""
    replayed: int = 0
    """Trials taken from the record of an earlier session."""
    training_seconds: float = 0.0
    """Time spent inside evaluations, summed over workers."""

    @property
    def best(self) -> Scored | None:
        """The best network so far; with several objectives, by the first."""
        return self.front[0] if self.front else None

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return self.counts["complete"] + self.counts["pruned"] + self.counts["failed"]

    def affords(self, trainings: int) -> bool:
        """Whether the budget suffices for so many more, if none of them is cut short."""
        return self.spent + trainings <= self.budget + _ROUNDING
