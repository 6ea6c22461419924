"""Zero-cost scores beside an evaluator: as a prefilter, and as hints for the predictor. Computed in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from evaluators import EvaluationFailed, Evaluator, NoVerdict
from nas.evaluation import cheap_evaluators
from nas.prefilter import Prefilter, PrefilterRule
from nas.settings import Settings
from search_space import Architecture, InputError
from search_space.errors import one_line
from search_space.json_lines import read_lines
from searchers import Problem, ScoredSample, sample_networks

SAMPLE = 128
"""So many random networks say what a good score is."""
OnScore = Callable[[int, int], None]
Passes = Callable[[Architecture], bool]


class CheapScores:
    """Scores of networks, each computed once; with a file, once in all sessions of a run.

    A score is a function of the network and the run's seed, so the file decides about nothing but time. What is taken
    up on another machine keeps the scores that the first one computed.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator], seed: int, file: Path | None = None) -> None:
        self._evaluators = evaluators
        self._seed = seed
        self._file = file
        self._known = {} if file is None else _read(file)

    def score(self, name: str, architecture: Architecture) -> float:
        """The score, the more the better; NaN if the network has none. Raises `NoVerdict`."""
        key = (name, architecture.arch_id)
        if key not in self._known:
            self._known[key] = self._compute(name, architecture)
        return self._known[key]

    def _compute(self, name: str, architecture: Architecture) -> float:
        evaluator, reason = self._evaluators[name], ""
        try:
            (*_, last) = evaluator.evaluate(architecture, seed=self._seed)
            value = float(last.metrics[name])
        except NoVerdict:
            raise
        except EvaluationFailed as failure:
            value, reason = math.nan, str(failure)
        except Exception as error:
            what = one_line(f"{type(error).__name__}: {error}")
            rule = f"{name} of {architecture.arch_id} could not be computed, so it is not judged by it: {what}"
            warnings.warn(rule, stacklevel=2)
            raise NoVerdict(what) from error
        if self._file is not None:
            kept = {"score": name, "arch_id": architecture.arch_id, "value": None if reason else value}
            with open(self._file, "a") as file:  # not synced, as other records are: a lost line is computed again
                file.write(json.dumps({**kept, "reason": reason} if reason else kept, allow_nan=False) + "\n")
        return value


def _read(file: Path) -> dict[tuple[str, str], float]:
    try:
        return {
            (str(row["score"]), str(row["arch_id"])): math.nan if row["value"] is None else float(row["value"])
            for row in read_lines(file)
        }
    except (ValueError, KeyError, TypeError) as error:
        rule = f"the zero-cost scores cannot be read: {type(error).__name__}: {error}"
        raise InputError(rule, where=str(file), remedy="remove the file: they will be computed again") from None


def with_cheap_scores(
    problem: Problem, settings: Settings, evaluator: Evaluator, file: Path | None, on_score: OnScore
) -> tuple[Problem, Passes]:
    """The problem with what zero-cost scores hint at, if that is wanted, and which networks pass the prefilter."""
    rule, features = settings.parsed_prefilter(), settings.parsed_features()
    names = dict.fromkeys([*([rule.name] if rule is not None else []), *features])
    scores = CheapScores(cheap_evaluators(names, evaluator), settings.seed, file)
    return hinted(problem, rule, features, scores.score, settings.seed, on_score)


def hinted(
    problem: Problem,
    rule: PrefilterRule | None,
    features: tuple[str, ...],
    score: Callable[[str, Architecture], float],
    seed: int,
    on_score: OnScore = lambda done, total: None,
) -> tuple[Problem, Passes]:
    """The problem with scores of a sample as features, and which networks pass the rule.

    Both rest on one sample of random networks that keep the limits. `on_score` is called with the networks done and
    their number.
    """
    names = tuple(dict.fromkeys([*([rule.name] if rule is not None else []), *features]))
    if not names:
        return problem, _everything
    genotypes = sample_networks(problem, seed, SAMPLE)
    table = np.full((len(genotypes), len(names)), math.nan)
    for row, genotype in enumerate(genotypes):
        on_score(row, len(genotypes))
        architecture = problem.space.decode(genotype)
        for column, name in enumerate(names):
            with contextlib.suppress(NoVerdict):
                table[row, column] = score(name, architecture)
    on_score(len(genotypes), len(genotypes))
    if features:
        chosen = table[:, [names.index(name) for name in features]]
        problem = dataclasses.replace(problem, sample=ScoredSample(features, tuple(genotypes), chosen))
    if rule is None:
        return problem, _everything
    return problem, Prefilter(rule, table[:, 0], functools.partial(score, rule.name)).passes


def _everything(architecture: Architecture) -> bool:
    return True
