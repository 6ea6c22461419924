"""Hard constraints on what is known before training: `macs<=200M`, `params<=4M`, `memory_mb<=8`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search_space import InputError
from search_space.errors import did_you_mean

COUNTED = ("params", "macs", "activations", "memory_mb")
_FORM = re.compile(r"\s*([a-z_]+)\s*(<=|>=)\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmg]?)\s*", re.IGNORECASE)
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


@dataclass(frozen=True)
class Constraint:
    """`metric` at most (or at least) `bound`."""

    metric: str
    at_most: bool
    bound: float

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metrics satisfy it."""
        value = metrics[self.metric]
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.at_most else '>='}{self.bound:.15g}"


def parse_constraint(text: str) -> Constraint:
    """Read `METRIC<=NUMBER` or `METRIC>=NUMBER`; K, M and G stand for 10³, 10⁶ and 10⁹. Raises `InputError`."""
    match = _FORM.fullmatch(text)
    remedy = 'write it as "macs<=200M"'
    if match is None:
        raise InputError("--constraint must be METRIC<=NUMBER or METRIC>=NUMBER", text, remedy=remedy)
    metric, relation, number, suffix = match.groups()
    if metric not in COUNTED:
        rule = "--constraint must be on a metric known before training"
        raise InputError(rule, metric, remedy=did_you_mean(metric, COUNTED))
    try:
        bound = float(number) * _SCALE[suffix.lower()]
    except ValueError:
        raise InputError("--constraint needs a number", number, remedy=remedy) from None
    if not 0 < bound < float("inf"):
        raise InputError("--constraint needs a positive, finite bound", text, remedy=remedy)
    return Constraint(metric, relation == "<=", bound)


def violated(constraints: Sequence[Constraint], metrics: Mapping[str, float]) -> list[Constraint]:
    """The constraints that do not hold."""
    return [constraint for constraint in constraints if not constraint.holds(metrics)]
