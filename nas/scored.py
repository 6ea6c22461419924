"""Networks that were scored, and which of them are the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import moocore
import numpy as np

from nas.constraints import Constraint, violated
from nas.record import TrialRecord
from search_space import Architecture
from searchers import Objective
from searchers.history import Scores


class Scored:
    """A network with all its evaluations."""

    def __init__(self, architecture: Architecture, number: int, record: TrialRecord) -> None:
        self.architecture = architecture
        self.number = number
        """The trial that looked at it first."""
        self.looks = 1
        self.cost: Mapping[str, float] = record.cost
        """What was known before."""
        self.learned: Mapping[str, float] = record.metrics
        """What evaluations gave, averaged."""
        self.metrics: Mapping[str, float] = {**record.metrics, **record.cost}
        """Both."""

    def look(self, record: TrialRecord) -> None:
        """Take in another evaluation."""
        self.looks += 1
        share = 1 / self.looks
        self.learned = {name: (1 - share) * mean + share * record.metrics[name] for name, mean in self.learned.items()}
        self.metrics = {**self.learned, **self.cost}


class Ranking:
    """The networks of a search that keep all limits, the best first; with several objectives, front after front."""

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self._objectives = objectives
        self._constraints = constraints

    def scores(self, scored: Scored) -> Scores:
        """One number for each objective, the higher the better."""
        metrics = scored.metrics
        return tuple(objective.sign * metrics[objective.metric] for objective in self._objectives)

    def keeps_limits(self, scored: Scored) -> bool:
        """Whether it satisfies all constraints."""
        return not violated(self._constraints, scored.metrics)

    def order(self, candidates: Iterable[Scored], believed: Mapping[str, Scores] | None = None) -> list[Scored]:
        """Ranked by their mean scores, or by what a searcher believes of them; those that break a limit left out."""
        kept, scores = self._kept(candidates, believed)
        fronts = [0] * len(kept)
        if len(self._objectives) > 1 and kept:
            fronts = moocore.pareto_rank(np.array(scores), maximise=True).tolist()
        order = sorted(range(len(kept)), key=lambda i: (-fronts[i], self._key(kept[i], scores[i])), reverse=True)
        return [kept[index] for index in order]

    def front(self, candidates: Iterable[Scored], believed: Mapping[str, Scores] | None = None) -> list[Scored]:
        """Those that no other dominates, in order of the first objective; with one objective, the best."""
        kept, scores = self._kept(candidates, believed)
        order = sorted(range(len(kept)), key=lambda i: self._key(kept[i], scores[i]), reverse=True)
        if len(self._objectives) == 1 or not kept:
            return [kept[index] for index in order[:1]]
        best = moocore.is_nondominated(np.array(scores), maximise=True)
        return [kept[index] for index in order if best[index]]

    def _kept(
        self, candidates: Iterable[Scored], believed: Mapping[str, Scores] | None
    ) -> tuple[list[Scored], list[Scores]]:
        kept = [scored for scored in candidates if self.keeps_limits(scored)]
        if believed is None:
            return kept, [self.scores(scored) for scored in kept]
        return kept, [believed[scored.architecture.arch_id] for scored in kept]

    @staticmethod
    def _key(scored: Scored, scores: Scores) -> tuple[Scores, float, float]:
        """What the better of two networks on one front has more of: of equals, the lower loss, then fewer macs."""
        return (scores, -scored.metrics.get("loss", 0.0), -scored.metrics["macs"])
