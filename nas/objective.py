"""What a search optimises: one metric, or several at once."""

from __future__ import annotations

import re
from collections.abc import Mapping

from evaluators import Direction
from nas.constraints import KNOWN_BEFORE_TRAINING
from search_space import InputError
from search_space.errors import did_you_mean
from searchers import Objective

_MAX_OBJECTIVES = 4


def parse_names(text: str) -> tuple[str, ...]:
    """The metrics of `accuracy,latency_ms`. Raises `InputError`."""
    names = tuple(name.strip() for name in text.split(","))
    remedy = 'write it as accuracy, or "accuracy,latency_ms"'
    if not all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names):
        raise InputError("--objective must be metrics separated by commas", text, remedy=remedy)
    if len(set(names)) < len(names):
        raise InputError("the metrics of --objective must differ", text, remedy=remedy)
    if len(names) > _MAX_OBJECTIVES:
        raise InputError(f"--objective may name at most {_MAX_OBJECTIVES} metrics", text, remedy="leave out some")
    return names


def objectives(text: str, learned: Mapping[str, Direction]) -> tuple[Objective, ...]:
    """The objectives: metrics that the evaluator gives (`learned`), or that are known before, of which less is better.

    Raises `InputError` for a metric that is neither.
    """
    made = []
    for name in parse_names(text):
        if name in learned:
            made.append(Objective(name, learned[name]))
        elif name in KNOWN_BEFORE_TRAINING:
            made.append(Objective(name, "minimize", known=True))
        else:
            remedy = did_you_mean(name, [*learned, *KNOWN_BEFORE_TRAINING])
            raise InputError(
                "--objective must be a metric of the evaluator, or known before training", name, remedy=remedy
            )
    return tuple(made)
