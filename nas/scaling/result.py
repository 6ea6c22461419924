"""What scaling hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.constraints import LATENCY
from search_space import Architecture
from search_space.component import plain_number
from search_space.scaling import Member


@dataclass(frozen=True)
class FamilyMember:
    """A network of a family, with its cost."""

    member: Member
    metrics: Mapping[str, float]
    """Counted cost and, with a latency table, predicted latency."""
    ratio_reached: float
    """Its cost, the base's being 1."""
    file: Path | None
    """Where it was written."""

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return self.member.architecture

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `nas scale --json`."""
        shown = {name: self.metrics[name] for name in ("params", "macs", LATENCY) if name in self.metrics}
        return {
            "phi": plain_number(self.member.phi),
            "name": self.architecture.name,
            "file": None if self.file is None else str(self.file),
            "arch_id": self.architecture.arch_id,
            "width_mult": self.member.width_mult,
            "depth_mult": self.member.depth_mult,
            "resolution": self.architecture.resolution,
            **shown,
            "ratio_asked": self.member.ratio_asked,
            "ratio_reached": self.ratio_reached,
        }


@dataclass(frozen=True)
class ScalingResult:
    """A family of one base."""

    base: Architecture
    rule: Mapping[str, Any]
    """Name and coefficients of the rule."""
    source: str
    """Where the coefficients come from: `default`, `given`, `published`, or the run folder of a fit."""
    cost: str
    """The metric that `ratio_asked` and `ratio_reached` are about."""
    members: tuple[FamilyMember, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `nas scale --json`."""
        return {
            "base": {"name": self.base.name, "arch_id": self.base.arch_id, "resolution": self.base.resolution},
            "rule": {**self.rule, "source": self.source},
            "cost": self.cost,
            "family": [member.to_dict() for member in self.members],
        }
