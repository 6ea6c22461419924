"""Loaded once by the process that test_kill.py forks its searches from, so that they start at once."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from support import LearningEvaluator, space

from nas import api
from search_space import count_cost

assert matplotlib.figure
assert pytest


def go_on(run: Path, searcher: str, objective: str, budget: int, pruner: str = "none") -> None:
    """What `nas search` does, and if there is a run already `nas resume`; scores are made up, in 10 ms each."""
    api.make_evaluator = lambda settings, recorded=None: LearningEvaluator(seconds=0.01)
    if (run / "run.yaml").exists():
        api.resume(run)
    else:
        api.search(space(), budget, out=run, searcher=searcher, objective=objective, workers=1, pruner=pruner)


def _count_parts() -> None:
    """Counted costs of parts are remembered, too."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        count_cost(space().decode(space().sample(rng)))


_count_parts()
