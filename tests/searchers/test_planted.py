"""Who learns finds better networks than who does not. The margins are wide, the seeds are fixed."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import optuna
import pytest
from planted import at_random, double, search, searched, single, size, smooth
from scipy.stats import spearmanr

from search_space.space import Genotype
from searchers import LocalSearch, PredictorGuided, RegularizedEvolution, Reinforce, SpaceSampler, distributions


def best(genotypes: Sequence[Genotype]) -> float:
    return max(smooth(genotype) for genotype in genotypes)


def test_the_predictor_finds_in_60_trials_what_chance_does_not_in_500() -> None:
    found = [search(PredictorGuided(single(), seed), 60, seed).observed for seed in range(3)]
    chance = [best(at_random(500, seed)) for seed in range(3)]
    assert np.mean([best([look.genotype for look in looks]) for looks in found]) > np.mean(chance) + 0.03


def test_the_first_networks_have_all_options_of_all_genes_alike() -> None:
    looks = search(PredictorGuided(single(), 0, initial=12), 12).observed
    for gene, options in enumerate(len(gene.options) for gene in searched().genes):  # 12 / options, give or take one
        counts = np.bincount([look.genotype[gene] for look in looks], minlength=options)
        assert abs(counts - 12 / options).max() < 2


def test_the_predictor_believes_in_what_is_good_not_in_what_had_luck() -> None:
    ranked = np.array([how_well_ranked(seed) for seed in range(6)])
    by_belief, by_mean = ranked.mean(axis=0)
    assert by_belief > max(0.8, by_mean + 0.01)


def how_well_ranked(seed: int) -> tuple[float, float]:
    """Rank correlation with the truth of beliefs after 60 trials, and of mean scores."""
    sampler = PredictorGuided(single(), seed)
    study, rng = optuna.create_study(direction="maximize", sampler=sampler), np.random.default_rng(seed)
    for _ in range(60):
        trial = study.ask(distributions(searched()))
        study.tell(trial, smooth(searched().genotype(trial.params)) + 0.05 * rng.standard_normal())
    believed = sampler.believed(sampler.history(study), 0)
    assert believed is not None
    found = sampler.history(study).networks
    assert believed.keys() == {network.arch_id for network in found}
    truth = [smooth(network.genotype) for network in found]
    beliefs = [believed[network.arch_id][0] for network in found]
    means = [network.scores[0] for network in found]
    return float(spearmanr(truth, beliefs).statistic), float(spearmanr(truth, means).statistic)


@pytest.mark.parametrize("seed", range(3))
def test_reinforce_learns(seed: int) -> None:
    history = search(Reinforce(single(), seed), 300, seed)
    scores = [smooth(look.genotype) for look in history.observed]
    assert np.mean(scores[-50:]) > np.mean(scores[:50]) + 0.15
    assert max(scores) > best(at_random(300, seed)) + 0.05


@pytest.mark.parametrize("rate", [0.3, 10.0])
def test_reinforce_never_settles_on_one_network(rate: float) -> None:
    history = search(Reinforce(single(), 0, learning_rate=rate), 100)
    assert len(history.networks) == 100


@pytest.mark.parametrize("make", [LocalSearch, RegularizedEvolution])
def test_searching_nearby_is_better_than_chance(make: type[SpaceSampler]) -> None:
    found = [best([look.genotype for look in search(make(single(), seed), 200, seed).observed]) for seed in range(3)]
    assert np.mean(found) > np.mean([best(at_random(200, seed)) for seed in range(3)]) + 0.05


def hypervolume(genotypes: Sequence[Genotype]) -> float:
    points = [(smooth(genotype), -size(searched().decode(genotype))) for genotype in genotypes]
    return float(moocore.hypervolume(np.array(points), ref=[0.0, -1.0], maximise=True))


@pytest.mark.parametrize(("make", "budget"), [(PredictorGuided, 40), (LocalSearch, 150), (RegularizedEvolution, 250)])
def test_fronts_are_larger_than_by_chance(make: type[SpaceSampler], budget: int) -> None:
    volumes = [
        hypervolume([look.genotype for look in search(make(double(), seed), budget, seed).observed])
        for seed in range(3)
    ]
    chance = [hypervolume(at_random(budget, seed)) for seed in range(3)]
    assert np.mean(volumes) > 1.05 * np.mean(chance)
