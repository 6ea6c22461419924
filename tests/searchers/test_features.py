"""Scores that need no evaluation as an input of the predictor: no harm if useless, a gain if they tell something."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import optuna
import pytest
from planted import search, searched, single, smooth, worths
from scipy.optimize import approx_fprime
from scipy.stats import spearmanr
from support import SMALL_SPACE, TINY_SPACE, problem, propose, space
from test_surrogate import networks, some_looks, some_parameters

from search_space import SearchSpace
from search_space.space import Genotype
from searchers import PredictorGuided, ScoredSample, sample_networks
from searchers.features import GenesAndScores, best_of
from searchers.surrogate import Surrogate, fit, minus_log_posterior


def good(genotype: Genotype) -> float:
    """Tells much, but not all, and on another scale: the genes' worths, changed at random, and a network's own luck."""
    rng = np.random.default_rng(3)
    off = [worth * rng.uniform(0, 2, len(worth)) for worth in worths()]
    value = sum(off[gene][genotype[gene]] for gene in searched().active(genotype))
    return math.exp(5 * value + 0.2 * np.random.default_rng(genotype).standard_normal())


def useless(genotype: Genotype) -> float:
    """As easily learned, and tells nothing: other genes matter."""
    rng = np.random.default_rng(5)
    other = [rng.permutation(worth) for worth in worths()]
    shuffled = rng.permutation(len(other))
    return float(
        sum(other[gene][genotype[gene]] * worths()[shuffled[gene]].max() for gene in searched().active(genotype))
    )


def noise(genotype: Genotype) -> float:
    return float(np.random.default_rng(genotype).standard_normal())


def sample(*scores: object, count: int = 128, seed: int = 0) -> ScoredSample:
    genotypes = sample_networks(single(), seed, count)
    table = np.array([[score(genotype) for score in scores] for genotype in genotypes])  # type: ignore[operator]
    return ScoredSample(tuple(str(number) for number in range(len(scores))), tuple(genotypes), table)


def small_sample(searched: SearchSpace, count: int = 40, features: int = 2) -> ScoredSample:
    rng = np.random.default_rng(0)
    return ScoredSample(
        tuple("abc"[:features]), tuple(networks(searched, count)), rng.standard_normal((count, features))
    )


def test_scores_are_learned_by_rank() -> None:
    genes = GenesAndScores(searched(), sample(good, noise))
    rng = np.random.default_rng(9)
    fresh = [searched().sample(rng) for _ in range(200)]
    rows = genes.rows(fresh)
    assert genes.features == 2
    learned, chance = rows[:, -2], rows[:, -1]
    assert spearmanr(learned, [good(one) for one in fresh]).statistic > 0.7
    assert 0.5 < learned.std() < 1.5
    assert chance.std() < 0.3
    assert genes.rows([]).shape == (0, rows.shape[1])


def test_what_cannot_be_learned_from_is_left_out() -> None:
    some = small_sample(space(), features=3)
    some.scores[:, 0] = 1.0
    some.scores[5:, 1] = math.nan
    some.scores[::2, 2] = math.nan
    assert GenesAndScores(space(), some).features == 1


def test_the_covariance_has_a_part_for_features() -> None:
    searched, rng = space(), np.random.default_rng(0)
    genes = GenesAndScores(searched, small_sample(searched))
    rows = genes.rows(networks(searched, 30))
    plain = some_parameters(genes.count, rng)
    hinted = dataclasses.replace(plain, hinted=0.7, hint_reach=(0.3, 1.9))
    looks = some_looks(30, rng)
    without, with_it = (Surrogate(genes, rows, looks, of).seen.prior for of in (plain, hinted))
    z = rows[:, -2:]
    apart = 0.3 * (z[:, None, 0] - z[:, 0]) ** 2 + 1.9 * (z[:, None, 1] - z[:, 1]) ** 2
    assert with_it - without == pytest.approx(0.7 * np.exp(-apart))
    assert hinted.total == pytest.approx(plain.total + 0.7)


@pytest.mark.parametrize("noisy", [True, False])
def test_the_gradient_with_features(noisy: bool) -> None:
    searched, rng = space(SMALL_SPACE), np.random.default_rng(0)
    genes = GenesAndScores(searched, small_sample(searched))
    rows, looks = genes.rows(networks(searched, 30)), some_looks(30, rng)
    loss, centre, width = minus_log_posterior(genes, rows, looks, noisy=noisy)
    assert len(centre) == genes.count + 6 + 3
    for _ in range(5):
        place = centre + 0.7 * width * rng.standard_normal(len(centre))
        value, gradient = loss(place)
        assert math.isfinite(value)
        assert gradient == pytest.approx(approx_fprime(place, lambda x: loss(x)[0], 1e-6), rel=1e-3, abs=1e-3)


def test_a_feature_that_explains_the_scores_is_believed() -> None:
    rng = np.random.default_rng(0)
    genes = GenesAndScores(searched(), sample(good, useless))
    found = [searched().sample(rng) for _ in range(60)]
    rows = genes.rows(found)
    looks = dataclasses.replace(some_looks(60, rng), mean=np.tanh(rows[:, -2]), count=np.ones(60), noise=np.ones(60))
    fitted = fit(genes, rows, looks, noisy=False)
    assert fitted.hinted > 0.3
    assert fitted.hint_reach[0] > 3 * fitted.hint_reach[1]


# What the searcher makes of it.


def test_half_of_the_first_networks_are_of_the_best_quarter_by_score() -> None:
    given = sample(good)
    posed = dataclasses.replace(single(), sample=given)
    best = best_of(given)
    assert [good(one) for one in best] == sorted(map(good, given.genotypes), reverse=True)[:32]
    begun = [look.genotype for look in search(PredictorGuided(posed, 0), 16).observed]
    assert len(set(begun[::2]) & set(best)) == 8
    assert not set(begun[1::2]) & set(given.genotypes)


def test_several_scores_vote_and_networks_that_lack_one_do_not_count() -> None:
    given = small_sample(space(), count=6)
    given.scores[:] = [[1.0, 5.0], [2.0, 9.0], [math.nan, 99.0], [3.0, 8.0], [9.0, 1.0], [0.0, 0.0]]
    assert best_of(given) == [given.genotypes[1], given.genotypes[3]]
    given.scores[:] = math.nan
    assert best_of(given) == []


@pytest.mark.parametrize("objective", ["accuracy", "accuracy,macs"])
def test_a_fresh_sampler_goes_on_as_the_old_one_would(objective: str) -> None:
    posed = dataclasses.replace(problem(objective=objective), sample=small_sample(space()))
    whole = propose(PredictorGuided(posed, 5), posed, 40)
    study = optuna.create_study(directions=[one.direction for one in posed.objectives])
    first = propose(PredictorGuided(posed, 5), posed, 25, study=study)
    assert first + propose(PredictorGuided(posed, 5), posed, 15, study=study) == whole


def test_a_space_of_four_networks() -> None:
    tiny = space(TINY_SPACE)
    genotypes = sample_networks(problem(tiny), 0, 128)
    posed = dataclasses.replace(problem(tiny), sample=ScoredSample(("a",), tuple(genotypes), np.arange(4.0)[:, None]))
    assert len(set(propose(PredictorGuided(posed, 0), posed, 20))) == 4


def test_a_sample_must_have_a_score_for_each_network() -> None:
    with pytest.raises(ValueError, match="scores must be 1 x 2"):
        ScoredSample(("a", "b"), ((0,),), np.zeros((2, 2)))


def best_found(given: ScoredSample | None, seed: int, budget: int = 40) -> float:
    posed = single() if given is None else dataclasses.replace(single(), sample=given)
    return max(smooth(look.genotype) for look in search(PredictorGuided(posed, seed), budget, seed).observed)


def test_a_score_that_tells_something_helps_and_one_that_does_not_does_no_harm() -> None:
    """Over six seeds without, with a good and with a useless score: .813 ± .015, .885 ± .007 and .827 ± .015."""
    seeds = range(4)
    without = np.mean([best_found(None, seed) for seed in seeds])
    assert np.mean([best_found(sample(good, seed=seed), seed) for seed in seeds]) > without + 0.02
    assert np.mean([best_found(sample(useless, seed=seed), seed) for seed in seeds]) > without - 0.03
