"""How well scores rank networks, with intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

Array = NDArray[np.float64]
LEAST_NETWORKS = 4
MACS = "macs"
_RESAMPLES = 1_000
_PAIRS_AT_ONCE = 4_000_000
"""So that many networks do not take much memory."""


@dataclass(frozen=True)
class Values:
    """A score of each network, in the order of the audit's; the higher the better, None where there is none."""

    metric: str
    values: Sequence[float | None]
    seconds_per_network: float = 0.0
    trained: bool = False
    """Whether it took training."""


@dataclass(frozen=True)
class Ranked:
    """How a score ranks networks. Intervals are 95 % ones, by the bootstrap over networks."""

    name: str
    metric: str
    networks: int
    """That have this score; the figures are of these."""
    tau: float
    """Kendall's tau-b with the truth, 1 the same order, 0 none."""
    tau_interval: tuple[float, float]
    over_macs: float
    """By how much its tau exceeds that of macs on the same networks."""
    over_macs_interval: tuple[float, float]
    over_baseline: float
    """By how much it exceeds the tau of the baseline, the best score without training, on those that have both."""
    over_baseline_interval: tuple[float, float]
    top_quarter_overlap: float
    """Of the true best quarter, the share that is in the score's best quarter."""
    seconds_per_network: float
    values: tuple[float | None, ...] = field(repr=False)
    """The score of each network, in the order of the audit's; the higher the better."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the values."""
        return {
            "score": self.name,
            "metric": self.metric,
            "networks": self.networks,
            "tau": self.tau,
            "tau_interval": list(self.tau_interval),
            "over_macs": self.over_macs,
            "over_macs_interval": list(self.over_macs_interval),
            "over_baseline": self.over_baseline,
            "over_baseline_interval": list(self.over_baseline_interval),
            "top_quarter_overlap": self.top_quarter_overlap,
            "seconds_per_network": self.seconds_per_network,
        }


def rank(scores: Mapping[str, Values], truth: Sequence[float], seed: int = 0) -> tuple[tuple[Ranked, ...], str]:
    """The scores, the best first, and the name of the best of those that take no training and nearly all networks have.

    `macs` must be among them. A score that fewer than four networks have is left out.
    """
    real = np.asarray(truth, dtype=float)
    taus = _Taus({name: score.values for name, score in scores.items()}, real, seed)
    rows_of = {name: taus.rows(name) for name in scores}
    nearly_all = max(LEAST_NETWORKS, 0.9 * len(real))
    free = [name for name, score in scores.items() if not score.trained and len(rows_of[name]) >= nearly_all]
    baseline = max(free, key=lambda name: taus.of(name, rows_of[name])[0])
    with_baseline = set(rows_of[baseline])
    ranked = []
    for name, score in scores.items():
        rows = rows_of[name]
        common = tuple(row for row in rows if row in with_baseline)
        if len(common) < LEAST_NETWORKS:
            continue
        (tau, drawn), (macs, macs_drawn) = (taus.of(one, rows) for one in (name, MACS))
        (same, same_drawn), (best, best_drawn) = (taus.of(one, common) for one in (name, baseline))
        ranked.append(
            Ranked(
                name,
                score.metric,
                len(rows),
                tau,
                _interval(drawn),
                tau - macs,
                _interval(drawn - macs_drawn),
                same - best,
                _interval(same_drawn - best_drawn),
                _overlap(taus.values(name, rows), real[list(rows)]),
                score.seconds_per_network,
                tuple(score.values),
            )
        )
    return tuple(sorted(ranked, key=lambda one: -one.tau)), baseline


class _Taus:
    """Kendall's tau of scores on some of the networks and on resamples of them, the same for all scores."""

    def __init__(self, scores: Mapping[str, Sequence[float | None]], truth: Array, seed: int) -> None:
        self._scores, self._truth, self._seed = scores, truth, seed
        self._known: dict[tuple[str, tuple[int, ...]], tuple[float, Array]] = {}

    def rows(self, name: str) -> tuple[int, ...]:
        """Which networks have a score."""
        return tuple(row for row, value in enumerate(self._scores[name]) if value is not None)

    def values(self, name: str, rows: Sequence[int]) -> Array:
        """A score of these networks."""
        return np.array([self._scores[name][row] for row in rows], dtype=float)

    def of(self, name: str, rows: tuple[int, ...]) -> tuple[float, Array]:
        """Tau on these networks, and on each resample."""
        if (name, rows) not in self._known:
            score, truth = self.values(name, rows), self._truth[list(rows)]
            draws = np.random.default_rng(self._seed).integers(len(rows), size=(_RESAMPLES, len(rows)))
            self._known[name, rows] = _tau(score, truth), resampled_taus(score, truth, draws)
        return self._known[name, rows]


def _tau(score: Array, truth: Array) -> float:
    """Kendall's tau-b; 0 if all scores are equal, which orders nothing."""
    tau = float(kendalltau(score, truth).statistic)
    return 0.0 if np.isnan(tau) else tau


def resampled_taus(score: Array, truth: Array, draws: NDArray[np.int64]) -> Array:
    """Kendall's tau-b of each resample [R] of the networks [N], given by their numbers [R, N]; 0 where it is undefined.

    Each pair of networks counts as often as the resample has it. SciPy, asked once for each, would take most of a
    second for each score.
    """
    counts = np.zeros((len(draws), len(score)))
    np.add.at(counts, (np.arange(len(draws))[:, np.newaxis], draws), 1)
    agreed, by_score, by_truth = (np.zeros(len(draws)) for _ in range(3))
    step = max(1, _PAIRS_AT_ONCE // len(score))
    for start in range(0, len(score), step):
        rows = slice(start, start + step)
        signs, true_signs = (np.sign(one[rows, np.newaxis] - one) for one in (score, truth))
        for total, pairs in ((agreed, signs * true_signs), (by_score, signs**2), (by_truth, true_signs**2)):
            total += (counts[:, rows] @ pairs * counts).sum(axis=1)
    return np.divide(agreed, np.sqrt(by_score * by_truth), out=np.zeros(len(draws)), where=by_score * by_truth > 0)


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return low, high


def _overlap(score: Array, truth: Array) -> float:
    count = max(1, len(truth) // 4)
    best = set(np.argsort(-truth, kind="stable")[:count].tolist())
    return len(best & set(np.argsort(-score, kind="stable")[:count].tolist())) / count
