"""What a search hands over, and how it may end otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.finalists import Finalist
from search_space import Architecture, InputError


class Interrupted(KeyboardInterrupt):
    """The search was stopped from outside; `run` is the folder to resume."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run


class NothingFound(InputError):
    """The search ended without a single network, because none satisfies the constraints."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found."""

    run: Path
    """The run folder."""
    best: BestNetwork | None
    """None if every trial failed, or every finalist breaks a constraint when measured or trained longer."""
    counts: dict[str, int]
    """`complete` trials, of which `again` were further looks at a network; `failed`, `pruned` ones; proposals
    `infeasible`, `duplicate` and `filtered`."""
    stopped_by: str
    """`budget`, `exhausted` (nothing new was proposed any more) or `time limit` (of the search, or while finalists were
    trained)."""
    wall_time_s: float
    """Over all sessions that ended by themselves or by Ctrl-C."""
    training_time_s: float
    """Time inside evaluations, summed over workers and sessions."""
    full_training_equivalents: float
    """What of the budget was spent: a trial that was pruned counts as the share of a training that it had."""
    finalists: tuple[Finalist, ...] = ()
    """The candidates that were trained again or timed on the device, the winner first."""
    finalists_not_timed: str = ""
    """Why they were not, if they were to be."""
    finalists_not_trained: str = ""
    """Why they were not, if they were to be."""
    final_proxy: str = ""
    """The fidelity at which finalists are trained; empty if they are not."""
    front: tuple[BestNetwork, ...] = ()
    """With several objectives, the Pareto front, in order of the first; `best` is its first network."""
    hypervolume: float | None = None
    """Of the front, down to the reference point."""
    reference_point: Mapping[str, float] = field(default_factory=dict)
    """The worst value of each objective that was seen."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data of `summary.json` and `nas search --json`."""
        return {
            "run": str(self.run),
            "best": self.best and self.best.to_dict(),
            "counts": self.counts,
            "stopped_by": self.stopped_by,
            "wall_time_s": round(self.wall_time_s, 3),
            "training_time_s": round(self.training_time_s, 3),
            "full_training_equivalents": round(self.full_training_equivalents, 3),
            "finalists": [finalist.to_dict() for finalist in self.finalists],
            "finalists_not_timed": self.finalists_not_timed,
            "finalists_not_trained": self.finalists_not_trained,
            "final_proxy": self.final_proxy,
            "front": [network.to_dict() for network in self.front],
            "hypervolume": self.hypervolume,
            "reference_point": dict(self.reference_point),
        }


@dataclass(frozen=True)
class BestNetwork:
    """The winner and its metrics, counted cost among them."""

    architecture: Architecture
    metrics: dict[str, float]
    """Means over looks."""
    looks: int = 1
    """How often it was evaluated."""

    @property
    def arch_id(self) -> str:
        """Content hash of the architecture."""
        return self.architecture.arch_id

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"arch_id": self.arch_id, "looks": self.looks, "metrics": self.metrics}
