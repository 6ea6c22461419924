"""What a table says of the networks that searchers picked, and of the best there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import moocore
import numpy as np

from evaluators.table import TableEntry
from nas.benchmark.runs import KNOWN
from nas.constraints import Constraint, parse_constraint
from search_space import InputError
from search_space.errors import did_you_mean
from searchers import Objective

REGRET = "regret"
HYPERVOLUME_RATIO = "hypervolume_ratio"
_PERCENTILE = re.compile(r"\s*([a-z]+)\s*([<>]=)\s*p([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*", re.IGNORECASE)


def absolute(text: str, entries: Mapping[str, TableEntry]) -> Constraint:
    """The constraint that `macs<=100M` or `macs<=p40` spells: p40 is the 40th percentile of the table's networks.

    It is the least value that at least 40 % of the distinct networks do not exceed. Raises `InputError`.
    """
    match = _PERCENTILE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        constraint = parse_constraint(text)
        _check_metric(constraint.metric)
        return constraint
    metric, relation, percent = match.groups()
    _check_metric(metric)
    if not 0 < float(percent) <= 100:
        rule = "a percentile must be above 0, and at most 100"
        raise InputError(rule, text, where="--constraint", remedy='write it as "macs<=p40"')
    values = [getattr(entry, metric) for entry in entries.values()]
    bound = float(np.percentile(values, float(percent), method="inverted_cdf"))
    return Constraint(metric, relation == "<=", bound)


def _check_metric(metric: str) -> None:
    if metric not in KNOWN:
        rule = f"--constraint of a bench must be on {' or '.join(KNOWN)}"
        raise InputError(rule, metric, remedy=did_you_mean(metric, KNOWN))


class Truth:
    """Judges picks by true means, as `regret` or, with several objectives, as `hypervolume_ratio`."""

    def __init__(
        self, entries: Mapping[str, TableEntry], objectives: Sequence[Objective], constraints: Sequence[Constraint]
    ) -> None:
        self.metric = REGRET if len(objectives) == 1 else HYPERVOLUME_RATIO
        values = {
            arch_id: {"accuracy": entry.accuracy, "params": entry.params, "macs": entry.macs}
            for arch_id, entry in entries.items()
        }
        # The higher the better.
        self._scores = {
            arch_id: tuple(one.sign * metrics[one.metric] for one in objectives) for arch_id, metrics in values.items()
        }
        allowed = [
            self._scores[arch_id]
            for arch_id, metrics in values.items()
            if all(constraint.holds(metrics) for constraint in constraints)
        ]
        if not allowed:
            wishes = " and ".join(map(str, constraints))
            raise InputError(f"no network of the table satisfies {wishes}", where="--constraint", remedy="loosen one")
        self.allowed = len(allowed)
        """How many networks the constraints allow."""
        self._worst = np.min(list(self._scores.values()), axis=0)
        self.best = max(allowed)[0] if len(objectives) == 1 else self._volume(allowed)
        """The best there is: the highest accuracy (0 to 1), or the hypervolume of the true front."""
        if len(objectives) > 1 and not self.best:
            rule = "every allowed network is the table's worst by one of the objectives: there is no hypervolume"
            raise InputError(rule, where="--constraint", remedy="loosen one")

    def figures(self, fronts: Sequence[Sequence[str]]) -> list[float]:
        """For each front of `arch_id`s, its regret in percentage points, or its share of the hypervolume, 0 to 1.

        Without a pick there is no regret (NaN), and no hypervolume (0).
        """
        figures: list[float] = []
        for index, front in enumerate(fronts):
            if index and front == fronts[index - 1]:
                figures.append(figures[-1])
            elif self.metric == HYPERVOLUME_RATIO:
                figures.append(self._volume([self._scores[arch_id] for arch_id in front]) / self.best)
            else:
                figures.append(100 * (self.best - self._scores[front[0]][0]) if front else float("nan"))
        return figures

    def _volume(self, scores: Sequence[tuple[float, ...]]) -> float:
        return float(moocore.hypervolume(np.array(scores), ref=self._worst, maximise=True)) if scores else 0.0
