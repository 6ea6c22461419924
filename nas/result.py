"""What a search hands over, and how it may end otherwise."""

from __future__ import annotations

from dataclasses import dataclass
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
    """None if every trial failed, or every finalist breaks a constraint when measured."""
    counts: dict[str, int]
    """`complete`, `failed`, `pruned` trials; `infeasible`, `duplicate` proposals."""
    stopped_by: str
    """`budget`, `exhausted` (nothing new was proposed any more) or `time limit`."""
    wall_time_s: float
    """Over all sessions that ended by themselves or by Ctrl-C."""
    training_time_s: float
    """Time inside evaluations, summed over workers and sessions."""
    finalists: tuple[Finalist, ...] = ()
    """The candidates that were timed on the device, the winner first."""
    finalists_not_timed: str = ""
    """Why they were not, if they were to be."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data of `summary.json` and `nas search --json`."""
        return {
            "run": str(self.run),
            "best": self.best and {"arch_id": self.best.architecture.arch_id, "metrics": self.best.metrics},
            "counts": self.counts,
            "stopped_by": self.stopped_by,
            "wall_time_s": round(self.wall_time_s, 3),
            "training_time_s": round(self.training_time_s, 3),
            "finalists": [finalist.to_dict() for finalist in self.finalists],
            "finalists_not_timed": self.finalists_not_timed,
        }


@dataclass(frozen=True)
class BestNetwork:
    """The winner and its metrics, counted cost among them."""

    architecture: Architecture
    metrics: dict[str, float]

    @property
    def arch_id(self) -> str:
        """Content hash of the architecture."""
        return self.architecture.arch_id
