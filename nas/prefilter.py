"""Which networks are worth evaluating at all: those among the best share by a zero-cost score."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators import NoVerdict
from evaluators.zero_cost import COUNTED, NAMES
from search_space import Architecture, InputError
from search_space.errors import WorkFailed, did_you_mean, listed

_CROSSES_LIMITS = "netadapt"
_FEATURED = "predictor"


@dataclass(frozen=True)
class PrefilterRule:
    """The best `share` of networks by the score `name`."""

    name: str
    share: float

    def __str__(self) -> str:
        return f"{self.name}:{self.share:.15g}"


def parse_prefilter(text: str) -> PrefilterRule:
    """Read `NAME:SHARE`. Raises `InputError`."""
    name, _, number = text.partition(":")
    name = name.strip()
    _check_name("--prefilter", name)
    share = float(number) if re.fullmatch(r"\s*[0-9]*\.?[0-9]+(e-?[0-9]+)?\s*", number) else math.nan
    if not 0 < share < 1:
        rule = "--prefilter needs a share of networks above 0 and below 1"
        raise InputError(rule, text, remedy=f"write it as {name}:0.5")
    return PrefilterRule(name, share)


def parse_features(text: str) -> tuple[str, ...]:
    """Read `NAME,…`. Raises `InputError`."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        _check_name("--predictor-features", name)
        if names.count(name) > 1:
            raise InputError("--predictor-features must differ", name, remedy="name it once")
    return names


def _check_name(option: str, name: str) -> None:
    if name not in NAMES:
        raise InputError(f"{option} must name a zero-cost score", name, remedy=did_you_mean(name, NAMES))


def refuse_unfit(rule: PrefilterRule | None, features: Sequence[str], *, searcher: str, evaluator: str) -> None:
    """Raise `InputError` for a prefilter or features that make no sense with this searcher and evaluator."""
    wishes = [("--prefilter", rule.name)] if rule is not None else []
    wishes += [("--predictor-features", name) for name in features]
    for option, name in wishes:
        if evaluator == f"zero-cost:{name}":
            raise InputError(f"{option} must be another score than the one that is searched by", name)
        if name not in COUNTED and _is_blind(evaluator):
            remedy = f"use {listed(COUNTED)}"
            raise InputError(f"{option} {name} needs images, and this evaluator has none", evaluator, remedy=remedy)
    if rule is not None and searcher == _CROSSES_LIMITS:
        raise InputError("--prefilter would stop the cutting down of netadapt", searcher, remedy="use another searcher")
    if features and searcher != _FEATURED:
        remedy = f"leave it out, or use --searcher {_FEATURED}"
        raise InputError("--predictor-features are for the predictor", searcher, remedy=remedy)


def _is_blind(evaluator: str) -> bool:
    kind, _, name = evaluator.partition(":")
    return kind in ("table", "noisy-table") or (kind == "zero-cost" and name in COUNTED)


class Prefilter:
    """Lets networks pass whose score reaches that of the best share of a sample; one without a score does not.

    A network that has no score (a gradient that is no number, nothing left at the images' size) would hardly train, and
    must not be ranked. One whose score failed in some other way, as for too little memory, passes: that is no verdict.
    """

    def __init__(
        self, rule: PrefilterRule, sample: NDArray[np.float64], score: Callable[[Architecture], float]
    ) -> None:
        """`sample` are the scores of random networks [n], NaN where there is none. Raises `WorkFailed` if few have."""
        self._score = score
        best_first = -np.sort(-sample[np.isfinite(sample)])
        passing = math.ceil(rule.share * len(sample))
        if 2 * len(best_first) < len(sample):
            rest = f"only {len(best_first)} of {len(sample)} random networks of this space have one"
            raise WorkFailed(f"{rule.name} is of no use as a prefilter: {rest}")
        self.threshold = float(best_first[min(passing, len(best_first)) - 1]) if len(best_first) else -math.inf
        """Without a single network to compare with, all pass: the limits decide what there is to say."""

    def passes(self, architecture: Architecture) -> bool:
        """Whether a network is to be evaluated."""
        if self.threshold == -math.inf:
            return True
        try:
            return self._score(architecture) >= self.threshold
        except NoVerdict:
            return True
