"""Hard constraints, on what is known before training (`macs<=200M`, `latency_ms<=20`) or on what it gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search_space import InputError

COUNTED = ("params", "macs", "activations", "memory_mb")
LATENCY = "latency_ms"
"""Known where there is a latency table."""
KNOWN_BEFORE_TRAINING = (*COUNTED, LATENCY)
_FORM = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=)\s*([^<>=]+?)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmg]?)", re.IGNORECASE)
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

    def excess(self, metrics: Mapping[str, float]) -> float:
        """By what share of the bound it is broken; at most 0 if it holds."""
        distance = (metrics[self.metric] - self.bound) / self.bound
        return distance if self.at_most else -distance

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.at_most else '>='}{self.bound:.15g}"


def parse_constraint(text: str) -> Constraint:
    """Read `METRIC<=NUMBER` or `METRIC>=NUMBER`; K, M and G stand for 10³, 10⁶ and 10⁹. Raises `InputError`."""
    match = _FORM.fullmatch(text)
    remedy = 'write it as "macs<=200M"'
    if match is None:
        raise InputError("--constraint must be METRIC<=NUMBER or METRIC>=NUMBER", text, remedy=remedy)
    metric, relation, number = match.groups()
    return Constraint(metric, relation == "<=", parse_number("--constraint", number, text))


def parse_number(option: str, number: str, text: str) -> float:
    """A positive, finite number with an optional K, M or G. Raises `InputError` that shows `text`."""
    match = _NUMBER.fullmatch(number)
    try:
        value = float(match[1]) * _SCALE[match[2].lower()] if match else 0.0
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        remedy = "write it as 20, 1.5M or 2e8"
        raise InputError(f"{option} needs a positive, finite number", text, remedy=remedy)
    return value


def violated(constraints: Sequence[Constraint], metrics: Mapping[str, float]) -> list[Constraint]:
    """The constraints that do not hold."""
    return [constraint for constraint in constraints if not constraint.holds(metrics)]


def refuse_contradictions(constraints: Sequence[Constraint]) -> None:
    """Raise `InputError` for two limits on one metric that no number keeps to both of."""
    for most in constraints:
        for least in constraints:
            if most.at_most and not least.at_most and most.metric == least.metric and most.bound < least.bound:
                raise InputError(f"no network has {most} and {least}", where="--constraint", remedy="leave one out")
