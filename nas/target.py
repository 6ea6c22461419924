"""The soft reward: accuracy traded against one metric, as MnasNet does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nas.constraints import KNOWN_BEFORE_TRAINING, parse_number
from search_space import InputError
from search_space.errors import did_you_mean

REWARD = "reward"
"""The metric under which a trial's reward is recorded."""
DEFAULT_WEIGHT = -0.07
"""w of MnasNet's soft constraint: of two networks, one twice as slow and 5 % more accurate is worth the same."""


@dataclass(frozen=True)
class Target:
    """reward = objective · (metric / goal) ^ weight. Tan et al. 2019 (MnasNet), equation 2, with alpha = beta = w."""

    metric: str
    goal: float
    weight: float = DEFAULT_WEIGHT
    objective: str = "accuracy"

    def reward(self, objective: float, metrics: Mapping[str, float]) -> float:
        """The reward of a network with these metrics."""
        return float(objective * (metrics[self.metric] / self.goal) ** self.weight)

    def __str__(self) -> str:
        return f"{self.metric}={self.goal:.15g}"


def parse_target(text: str, weight: float = DEFAULT_WEIGHT, objective: str = "accuracy") -> Target:
    """Read `METRIC=NUMBER`. Raises `InputError`."""
    match = re.fullmatch(r"\s*([a-z_]+)\s*=\s*([^=]+?)\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError("--target must be METRIC=NUMBER", text, remedy='write it as "latency_ms=20"')
    metric, number = match.groups()
    if metric not in KNOWN_BEFORE_TRAINING:
        remedy = did_you_mean(metric, KNOWN_BEFORE_TRAINING)
        raise InputError("--target must be on a metric known before training", metric, remedy=remedy)
    if not -10 <= weight < 0:
        remedy = "MnasNet uses -0.07; further below 0 weighs the metric more"
        raise InputError("--target-weight must be below 0 and at least -10", weight, remedy=remedy)
    return Target(metric, parse_number("--target", number, text), weight, objective)
