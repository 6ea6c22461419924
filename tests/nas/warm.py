"""Loaded once by the process that test_kill.py forks its searches from, so that they start at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
from support import FakeEvaluator, LearningEvaluator, space

from nas import api
from nas.finalists import FinalFidelity
from search_space import count_cost

assert matplotlib.figure
assert pytest


class _Final(FinalFidelity):
    """Final scores that are made up as well."""

    def describe(self) -> dict[str, Any]:
        return {"fidelity": self.name, "recipe": {}}

    def provenance(self) -> dict[str, Any]:
        return {"fidelity": self.name}


def go_on(run: Path, searcher: str, objective: str, budget: int, finalists: int = 0, pruner: str = "none") -> None:
    """What `nas search` does, and if there is a run already `nas resume`; scores are made up, in 10 ms each."""
    api.make_evaluator = lambda *request, **more: LearningEvaluator(seconds=0.01)
    final = _Final("made up", FakeEvaluator(seconds=0.01), 1.0)  # type: ignore[arg-type]
    api.final_fidelity = lambda settings, evaluator, recorded=None, **more: final if settings.finalists else None
    if (run / "run.yaml").exists():
        api.resume(run)
    else:
        more = {"searcher": searcher, "objective": objective, "finalists": finalists, "pruner": pruner}
        api.search(space(), budget, out=run, workers=1, **more)


def _count_parts() -> None:
    """Counted costs of parts are remembered, too."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        count_cost(space().decode(space().sample(rng)))


_count_parts()
