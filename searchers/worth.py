"""What one more look at a network is worth: knowledge gradient, and hypervolume improvement."""

from __future__ import annotations

import math

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from searchers.beliefs import Beliefs, Learned, front_ranks
from searchers.surrogate import Array, Posterior

_RIVALS = 20
"""So many of the best networks might become the choice after a look at another one."""
_AGAIN = 40
"""So many of the best networks are considered for another look."""
_DRAWN = 100
"""So many of the best networks are drawn jointly with the candidates."""
_QUANTILES = ndtri((np.arange(41) + 0.5) / 41)
Indices = NDArray[np.int64]


def knowledge_gradient(beliefs: Beliefs, known: Array, rows: Array) -> tuple[Array, Indices, Array]:
    """Value of a look at each candidate; networks worth considering for another look, and its value.

    Frazier, Powell & Dayanik 2009. `known` are the candidates' scores [m, 1] if the
    objective is known; `rows` are their genes.
    """
    kept, kept_new = _probability_kept(beliefs, rows)
    allowed = np.flatnonzero(kept >= 0.5)
    learned = beliefs.objectives[0]
    if not len(allowed):  # nothing to choose yet: look for what keeps the limits
        return kept_new, np.empty(0, dtype=np.int64), np.empty(0)
    if learned is None:
        gain = np.maximum(known[:, 0] - beliefs.scores[allowed, 0].max(), 0.0)
        return gain * kept_new, np.empty(0, dtype=np.int64), np.empty(0)
    surrogate = learned.surrogate
    seen, new = surrogate.seen, surrogate.unseen(rows)
    best_first = allowed[np.argsort(-seen.mean[allowed], kind="stable")]
    rivals = best_first[:_RIVALS]
    behind = seen.mean[rivals[0]] - seen.mean[rivals]
    spread = np.sqrt(new.variance + float(surrogate.look_variance.max()))
    slopes = np.vstack([surrogate.covariance(rivals, seen, new), new.variance]) / spread
    own_behind = seen.mean[rivals[0]] - new.mean
    values = _gain_of_choice(np.vstack([np.tile(behind[:, None], len(rows)), own_behind]), slopes) * kept_new
    if not surrogate.parameters.noise:
        return values, np.empty(0, dtype=np.int64), np.empty(0)
    again = best_first[:_AGAIN]
    spread = np.sqrt(seen.variance[again] + surrogate.look_variance[again])
    slopes = surrogate.covariance(rivals, seen, seen.at(again)) / spread
    return values, again, _gain_of_choice(np.tile(behind[:, None], len(again)), slopes) * kept[again]


def _gain_of_choice(behind: Array, slopes: Array) -> Array:
    """E[max over rivals of (slope · z − behind)] for a standard normal z, for each look [rivals, m] -> [m].

    The first rival is the present choice, with nothing behind. Bounded from below twice: by the best pair with the
    present choice, in closed form, which is exact where chances are slim; and by the mean over quantiles of z.
    """
    apart = slopes - slopes[0]
    pairs = _expected_gain(behind, np.abs(apart))
    pairs[0] = 0.0
    quantiles = np.stack([(apart * z - behind).max(axis=0) for z in _QUANTILES])
    return np.asarray(np.maximum(pairs.max(axis=0), quantiles.mean(axis=0)))


def _expected_gain(behind: Array, spread: Array) -> Array:
    """E[max(0, spread · z − behind)] for a standard normal z."""
    spread = np.maximum(spread, 1e-12)
    ratio = behind / spread
    return np.asarray(spread * (np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi) - ratio * ndtr(-ratio)))


def _probability_kept(beliefs: Beliefs, rows: Array) -> tuple[Array, Array]:
    """That all learned limits are kept, by the networks that were looked at and by the candidates."""
    seen, new = np.ones(len(beliefs.networks)), np.ones(len(rows))
    for limit in beliefs.limits:
        seen *= _below_zero(limit.surrogate.seen)
        new *= _below_zero(limit.surrogate.unseen(rows))
    return seen, new


def _below_zero(posterior: Posterior) -> Array:
    return np.asarray(ndtr(-posterior.mean / np.sqrt(posterior.variance)))


def hypervolume_improvement(beliefs: Beliefs, known: Array, rows: Array, rng: np.random.Generator) -> Array:
    """By how much each candidate would raise the hypervolume, in one joint sample of all scores.

    `known` has the candidates' scores [m, objectives] where they need no evaluation. The reference point is the worst
    sampled score of each objective. Candidates that add nothing are told apart by their rank, far below those that do.
    """
    best_first = np.argsort(front_ranks(beliefs.means()), kind="stable")
    chosen = np.sort(best_first[:_DRAWN])
    seen, new = np.empty((len(chosen), known.shape[1])), known.copy()
    for index, learned in enumerate(beliefs.objectives):
        if learned is None:
            seen[:, index] = beliefs.scores[chosen, index]
        else:
            seen[:, index], new[:, index] = _drawn(learned, chosen, rows, rng)
    kept, kept_new = np.ones(len(chosen), dtype=bool), np.ones(len(rows), dtype=bool)
    for limit in beliefs.limits:
        excess, excess_new = _drawn(limit, chosen, rows, rng)
        kept &= excess <= 0
        kept_new &= excess_new <= 0
    reference = np.minimum(seen.min(axis=0), new.min(axis=0, initial=np.inf)) - 1e-9
    front = seen[kept]
    front = front[moocore.is_nondominated(front, maximise=True)] if len(front) else front
    volume = _hypervolume(front, reference)
    unit = _hypervolume(np.maximum(seen.max(axis=0), new.max(axis=0, initial=-np.inf))[None], reference) or 1.0
    ranks = front_ranks(new) if len(new) else np.empty(0)
    values = -1e-6 * (1 + ranks) - 1.0 * ~kept_new
    for index in np.flatnonzero(kept_new).tolist():
        if not (front >= new[index]).all(axis=1).any():
            values[index] = (_hypervolume(np.vstack([front, new[index]]), reference) - volume) / unit
    return np.asarray(values)


def _drawn(learned: Learned, chosen: Indices, rows: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """One joint sample, on the scores' own scale."""
    sample = learned.surrogate.draw(chosen, rows, rng)
    if learned.scale is not None:
        sample = learned.scale.back(sample)
    return sample[: len(chosen)], sample[len(chosen) :]


def _hypervolume(points: Array, reference: Array) -> float:
    """Of the part of the space that the points dominate, down to the reference point; more is better."""
    return float(moocore.hypervolume(points, ref=reference, maximise=True)) if len(points) else 0.0
