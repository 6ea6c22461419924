"""How well each score ranks, with intervals, and what that means for a search."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

Array = NDArray[np.float64]
LEAST_NETWORKS = 4
_RESAMPLES = 1_000


@dataclass(frozen=True)
class Ranked:
    """How a score ranks networks. Intervals are 95 % ones, by the bootstrap over networks."""

    name: str
    metric: str
    tau: float
    """Kendall's tau-b with the truth, 1 the same order, 0 none."""
    tau_interval: tuple[float, float]
    over_macs: float
    """By how much its tau exceeds that of macs on the same networks."""
    over_macs_interval: tuple[float, float]
    top_quarter_overlap: float
    """Of the true best quarter, the share that is in the score's best quarter."""
    seconds_per_network: float
    values: tuple[float, ...] = field(repr=False)
    """The score of each network, in the order of the audit's; the higher the better."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the values."""
        return {
            "score": self.name,
            "metric": self.metric,
            "tau": self.tau,
            "tau_interval": list(self.tau_interval),
            "over_macs": self.over_macs,
            "over_macs_interval": list(self.over_macs_interval),
            "top_quarter_overlap": self.top_quarter_overlap,
            "seconds_per_network": self.seconds_per_network,
        }


@dataclass(frozen=True)
class AuditResult:
    """What an audit found; `ranked` has the best score first."""

    out: Path
    """The audit's folder."""
    space: str
    truth: str
    truth_values: tuple[float, ...] = field(repr=False)
    truth_seconds_per_network: float
    arch_ids: tuple[str, ...] = field(repr=False)
    ranked: tuple[Ranked, ...]
    proxies: tuple[str, ...]
    """Names of the scores that a search could be told to train by, in order of cost."""
    failed: int
    """Networks that some score could not be computed for; they are left out."""
    stopped_by: str
    """`networks`, or `time` if not all that were asked for are in."""

    def of(self, name: str) -> Ranked:
        """The score of this name."""
        return next(one for one in self.ranked if one.name == name)

    @property
    def verdicts(self) -> list[str]:
        """In plain words, one line for each proxy."""
        return [self._verdict(name) for name in self.proxies]

    def _verdict(self, name: str) -> str:
        one, macs = self.of(name), self.of("macs")
        low, high = one.over_macs_interval
        both = f"tau {one.tau:.2f}, macs {macs.tau:.2f}"
        if low > 0:
            return f"{name} ranks better than macs ({both}): worth its {one.seconds_per_network:.3g} s a network"
        remedy = "use a higher fidelity" if name != self.proxies[-1] else "train longer, or on more images"
        if high < 0:
            return f"{name} ranks worse than macs, which cost nothing ({both}): {remedy}"
        more = ", or audit more networks to tell them apart" if one.tau > macs.tau else ""
        return f"macs alone rank as well as {name} ({both}): {remedy}{more}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data of `nas audit --json`."""
        return {
            "out": str(self.out),
            "space": self.space,
            "truth": self.truth,
            "truth_seconds_per_network": self.truth_seconds_per_network,
            "networks": len(self.arch_ids),
            "failed": self.failed,
            "stopped_by": self.stopped_by,
            "scores": [one.to_dict() for one in self.ranked],
            "verdicts": self.verdicts,
        }

    def to_csv(self) -> str:
        """A row for each network: its truth and all scores."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["arch_id", self.truth, *(one.name for one in self.ranked)])
        for row in zip(self.arch_ids, self.truth_values, *(one.values for one in self.ranked), strict=True):
            writer.writerow(row)
        return text.getvalue()


def rank(
    scores: Mapping[str, tuple[str, Sequence[float], float]], truth: Sequence[float], seed: int = 0
) -> tuple[Ranked, ...]:
    """`scores` has name -> (metric, values, the higher the better, seconds a network); `macs` must be among them."""
    real = np.asarray(truth, dtype=float)
    values = {name: np.asarray(score, dtype=float) for name, (_, score, _) in scores.items()}
    taus = {name: _tau(score, real) for name, score in values.items()}
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(len(real), size=len(real)) for _ in range(_RESAMPLES)]
    resampled = {name: np.array([_tau(score[rows], real[rows]) for rows in drawn]) for name, score in values.items()}
    ranked = [
        Ranked(
            name,
            metric,
            taus[name],
            _interval(resampled[name]),
            taus[name] - taus["macs"],
            _interval(resampled[name] - resampled["macs"]),
            _overlap(values[name], real),
            seconds,
            tuple(values[name].tolist()),
        )
        for name, (metric, _, seconds) in scores.items()
    ]
    return tuple(sorted(ranked, key=lambda one: -one.tau))


def _tau(score: Array, truth: Array) -> float:
    """Kendall's tau-b; 0 if all scores are equal, which orders nothing."""
    tau = float(kendalltau(score, truth).statistic)
    return 0.0 if np.isnan(tau) else tau


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    return low, high


def _overlap(score: Array, truth: Array) -> float:
    count = max(1, len(truth) // 4)
    best = set(np.argsort(-truth, kind="stable")[:count].tolist())
    return len(best & set(np.argsort(-score, kind="stable")[:count].tolist())) / count
