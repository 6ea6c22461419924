"""What an audit found, and what that means for a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.auditing.ranking import Ranked
from nas.csv_text import csv_text

_FEW_NETWORKS = 20
_FEW_TIMES = 8


@dataclass(frozen=True)
class AuditResult:
    """What an audit found; `ranked` has the best score first."""

    out: Path
    """The audit's folder."""
    space: str
    resolutions_px: tuple[int, ...]
    """Of the networks, at deployment."""
    truth: str
    truth_values: tuple[float, ...] = field(repr=False)
    truth_seconds_per_network: float
    truth_costs: Mapping[str, float]
    """Proxy -> so many times as much training is behind the truth, if that was trained here."""
    arch_ids: tuple[str, ...] = field(repr=False)
    ranked: tuple[Ranked, ...]
    baseline: str
    """The best score without training."""
    proxies: tuple[str, ...]
    """Names of the scores that a search could be told to train by, in order of cost."""
    failures: Mapping[str, str]
    """Evaluator -> what became of the networks that have no score by it, if there are any."""
    stopped_by: str
    """`networks`, or `time` if not all that were asked for are in."""

    def of(self, name: str) -> Ranked | None:
        """The score of this name, if enough networks have it."""
        return next((one for one in self.ranked if one.name == name), None)

    @property
    def verdicts(self) -> list[str]:
        """In plain words: one for each proxy, and what else there is to know."""
        said = [self._verdict(name) for name in self.proxies]
        if len(self.arch_ids) < _FEW_NETWORKS:
            said.append(f"{len(self.arch_ids)} networks are too few to tell scores apart: audit 40")
        near = [f"{times:.2g} times {name}" for name, times in self.truth_costs.items() if times < _FEW_TIMES]
        if near:
            costs = " and ".join(near)
            said.append(f"{self.truth} is but {costs}, and may share its preferences: train longer for the truth")
        return said

    def _verdict(self, name: str) -> str:
        one, best = self.of(name), self.of(self.baseline)
        assert best is not None
        if one is None:
            return f"too few networks have a score by {name}"
        low, high = one.over_baseline_interval
        more = "more" if one.over_baseline >= 0 else "less"
        both = f"tau {one.tau:.2f}, {abs(one.over_baseline):.2f} {more} on the same networks"
        cheaper = self._cheaper(one)
        if low > 0:
            worth = f"worth its {seconds_text(one.seconds_per_network)} s a network"
            return f"{name} ranks better than {best.name}, the best score without training ({both}): {cheaper or worth}"
        higher = "use a higher fidelity" if name != self.proxies[-1] else "train longer, or on more images"
        if high < 0:
            return f"{name} ranks worse than {best.name}, without training ({both}): {cheaper or higher}"
        higher += ", or audit more networks to tell them apart" if one.over_baseline > 0 else ""
        return f"{name} ranks no better than {best.name}, without training ({both}): {cheaper or higher}"

    def _cheaper(self, one: Ranked) -> str:
        """To use the best of the cheaper proxies instead, if one ranks no worse; else nothing."""
        names = self.proxies[: self.proxies.index(one.name)]
        others = [other for name in names if (other := self.of(name)) is not None and other.tau >= one.tau]
        if not others:
            return ""
        other = max(others, key=lambda other: other.tau)
        seconds = seconds_text(other.seconds_per_network)
        return f"use {other.name}, which is cheaper and ranks no worse (tau {other.tau:.2f}, {seconds} s a network)"

    def to_dict(self) -> dict[str, Any]:
        """Plain data of `nas audit --json`."""
        return {
            "out": str(self.out),
            "space": self.space,
            "resolutions_px": list(self.resolutions_px),
            "truth": self.truth,
            "truth_seconds_per_network": self.truth_seconds_per_network,
            "truth_costs": dict(self.truth_costs),
            "networks": len(self.arch_ids),
            "baseline": self.baseline,
            "failures": dict(self.failures),
            "stopped_by": self.stopped_by,
            "scores": [one.to_dict() for one in self.ranked],
            "verdicts": self.verdicts,
        }

    def to_csv(self) -> str:
        """A row for each network: its truth and all scores."""
        rows = zip(self.arch_ids, self.truth_values, *(one.values for one in self.ranked), strict=True)
        return csv_text(["arch_id", self.truth, *(one.name for one in self.ranked)], rows)


def seconds_text(seconds: float) -> str:
    """`0.148`, `34.3` or `1,102`."""
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"
